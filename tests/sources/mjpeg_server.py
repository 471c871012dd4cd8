"""A real network camera for the tests: an HTTP server on loopback that sends MJPEG; it can be stopped and restarted."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (160, 120)


def numbered_picture(number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A picture that can be told from every other, also after JPEG: its number as 16 light or dark blocks."""
    width, height = size
    picture = np.full((height, width, 3), 60, np.uint8)
    for bit in range(16):
        if number >> bit & 1:
            x, y = bit % 4 * width // 4, bit // 4 * height // 4
            picture[y : y + height // 4, x : x + width // 4] = 200
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number that was drawn."""
    height, width = picture.shape[:2]
    blocks = [
        picture[(2 * (bit // 4) + 1) * height // 8, (2 * (bit % 4) + 1) * width // 8].mean() > 130 for bit in range(16)
    ]
    return sum(1 << bit for bit, light in enumerate(blocks) if light)


class MjpegCamera:
    """Serves ``/video`` at ``fps``; the pictures' numbers go on over restarts. ``credentials``: (user, password)."""

    def __init__(self, fps: float = 20.0, credentials: tuple[str, str] | None = None) -> None:
        self.fps = fps
        self.credentials = credentials
        self.number = 0
        self.requests = 0
        self.port = 0
        self.mute = threading.Event()
        self._stop = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where the pictures are."""
        return f"http://127.0.0.1:{self.port}/video"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler_for(self, self._stop))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hang up on everyone and stop listening."""
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> MjpegCamera:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def next_jpeg(self) -> bytes:
        """The next picture."""
        self.number += 1
        return bytes(cv2.imencode(".jpg", numbered_picture(self.number))[1].tobytes())

    def allows(self, header: str | None) -> bool:
        """Whether HTTP Basic credentials are right, or none are asked for."""
        if self.credentials is None:
            return True
        expected = base64.b64encode(":".join(self.credentials).encode()).decode()
        return header == f"Basic {expected}"


def handler_for(camera: MjpegCamera, stop: threading.Event) -> type[BaseHTTPRequestHandler]:
    """The request handler of one camera, until ``stop``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            camera.requests += 1
            if self.path != "/video":
                self.send_error(404)
            elif not camera.allows(self.headers.get("Authorization")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
            else:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.send_pictures()

        def send_pictures(self) -> None:
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                due += 1 / camera.fps
                if camera.mute.is_set():
                    continue
                jpeg = camera.next_jpeg()
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")

        def log_message(self, *_arguments: Any) -> None:
            """Quiet."""

    return Handler
