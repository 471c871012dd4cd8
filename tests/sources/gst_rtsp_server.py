"""A real RTSP server (GStreamer's), run by the distribution's own Python: H.264 whose pictures carry their time.

    /usr/bin/python3 gst_rtsp_server.py ADDRESS PORT [FPS]

Each picture is 32 squares, black for 0 and white for 1: the milliseconds of the monotonic clock, which every process of
a machine shares, when it was made. Says "ready" when it listens.
"""

from __future__ import annotations

import sys
import time
from typing import Any

SIDE, COLUMNS, ROWS = 40, 8, 4
WIDTH, HEIGHT = SIDE * COLUMNS, SIDE * ROWS


def picture() -> bytes:
    """I420 of now."""
    stamp = int(time.monotonic() * 1000) & 0xFFFFFFFF
    bits = [(stamp >> place) & 1 for place in range(COLUMNS * ROWS)]
    rows = b""
    for row in range(ROWS):
        line = b"".join((b"\xeb" if bit else b"\x10") * SIDE for bit in bits[row * COLUMNS : (row + 1) * COLUMNS])
        rows += line * SIDE
    return rows + b"\x80" * (WIDTH * HEIGHT // 2)


def serve(address: str, port: str, fps: int) -> None:
    """Until the process is killed."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={fps}/1"
    encoder = f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} bitrate=800"
    launch = f"( appsrc name=pictures is-live=true do-timestamp=true format=time caps={caps} ! {encoder} "
    launch += "! rtph264pay name=pay0 pt=96 config-interval=1 )"

    def configure(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name("pictures")

        def push() -> bool:
            return bool(source.emit("push-buffer", Gst.Buffer.new_wrapped(picture())) == Gst.FlowReturn.OK)

        GLib.timeout_add(1000 // fps, push)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer()
    server.set_address(address)
    server.set_service(port)
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        sys.exit(f"{address}:{port} cannot be listened on")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 15)
