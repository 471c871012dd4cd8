"""A real RTSP camera for the tests: MJPEG over RTP, interleaved in the TCP connection, with Digest authentication.

RFC 2326 (RTSP 1.0), RFC 2435 (JPEG in RTP), RFC 2617 (Digest). UDP is refused, as by a camera behind a firewall.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable

import cv2
from mjpeg_server import SIZE, numbered_picture

REALM, NONCE = "camera", "d41d8cd98f00b204"
PACKET = 1200
CLOCK = 90_000
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track0\r\n"


def md5(*parts: str) -> str:
    """What Digest calls H."""
    return hashlib.md5(":".join(parts).encode()).hexdigest()


def jpeg_parts(jpeg: bytes) -> tuple[bytes, bytes]:
    """The quantisation tables and the entropy-coded scan of a baseline JPEG."""
    tables, at = b"", 2
    while True:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        segment = jpeg[at + 4 : at + 2 + length]
        if marker == 0xDB:
            tables += b"".join(segment[index + 1 : index + 65] for index in range(0, len(segment), 65))
        at += 2 + length
        if marker == 0xDA:
            return tables, jpeg[at:-2]


def numbered_jpeg(number: int) -> bytes:
    """That picture as JPEG."""
    return bytes(cv2.imencode(".jpg", numbered_picture(number), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def rtp_packets(jpeg: bytes, size: tuple[int, int], sequence: int, timestamp: int) -> list[bytes]:
    """One picture, a baseline JPEG of 4:2:0 with sides that are multiples of 8, as RTP packets of payload type 26."""
    tables, scan = jpeg_parts(jpeg)
    packets: list[bytes] = []
    for offset in range(0, len(scan), PACKET):
        last = offset + PACKET >= len(scan)
        rtp = struct.pack(">BBHII", 0x80, 26 | last << 7, (sequence + len(packets)) & 0xFFFF, timestamp & 0xFFFFFFFF, 7)
        # Type 1 is 4:2:0; Q 255 says that the tables come with each picture.
        head = struct.pack(">I", offset) + bytes([1, 255, size[0] // 8, size[1] // 8])
        quantisation = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        packets.append(rtp + head + quantisation + scan[offset : offset + PACKET])
    return packets


class RtspCamera:
    """Serves ``/live`` at ``fps``; numbers go on over restarts. ``refused_udp`` counts requests for UDP.

    ``jpeg(number)``: the picture of that number, see rtp_packets; ``size``: its width and height.
    """

    def __init__(
        self,
        fps: float = 25.0,
        credentials: tuple[str, str] | None = None,
        *,
        jpeg: Callable[[int], bytes] = numbered_jpeg,
        size: tuple[int, int] = SIZE,
    ) -> None:
        self.fps = fps
        self.jpeg = jpeg
        self.size = size
        self.credentials = credentials
        self.number = 0
        self.port = 0
        self.refused_udp = 0
        self.stopping = threading.Event()
        self._server: socketserver.ThreadingTCPServer | None = None
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Where the pictures are."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        camera = self
        self.stopping = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                camera._connections.append(self.connection)
                with contextlib.suppress(OSError, ValueError):  # hung up on, or its file closed
                    Session(camera, self).serve()

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # as above, with an answer still to be sent
                    super().finish()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hang up on everyone and stop listening."""
        self.stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def __enter__(self) -> RtspCamera:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class Session:
    """One client's connection."""

    def __init__(self, camera: RtspCamera, handler: socketserver.StreamRequestHandler) -> None:
        self._camera = camera
        self._handler = handler
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Answer requests until the client hangs up."""
        while (line := self._request_line()) is not None:
            method, uri = line.split(" ")[:2]
            headers = self._headers()
            status, answer, body = self._answer(method, uri, headers)
            lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *answer, f"Content-Length: {len(body)}"]
            self._send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            if method == "PLAY" and status.startswith("200"):
                threading.Thread(target=self._play, daemon=True).start()

    def _request_line(self) -> str | None:
        """The next request; RTCP reports that come between ("$", channel, length) are passed over."""
        while True:
            first = self._handler.rfile.read(1)
            if not first:
                return None
            if first != b"$":
                return (first + self._handler.rfile.readline()).decode().strip()
            self._handler.rfile.read(struct.unpack(">BH", self._handler.rfile.read(3))[1])

    def _headers(self) -> dict[str, str]:
        lines = iter(lambda: self._handler.rfile.readline().decode().strip(), "")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _answer(self, method: str, uri: str, headers: dict[str, str]) -> tuple[str, list[str], str]:
        if method == "OPTIONS":
            return "200 OK", ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"], ""
        if not self._allowed(method, uri, headers.get("authorization", "")):
            return "401 Unauthorized", [f'WWW-Authenticate: Digest realm="{REALM}", nonce="{NONCE}"'], ""
        if not re.search(r"/live(/|$)", uri):
            return "404 Not Found", [], ""
        if method == "DESCRIBE":
            return "200 OK", ["Content-Type: application/sdp", f"Content-Base: {uri}/"], SDP
        if method == "SETUP" and "TCP" not in headers["transport"]:
            self._camera.refused_udp += 1
            return "461 Unsupported Transport", [], ""
        return "200 OK", ["Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"], ""

    def _allowed(self, method: str, uri: str, header: str) -> bool:
        if self._camera.credentials is None:
            return True
        user, password = self._camera.credentials
        given = dict(re.findall(r'(\w+)="([^"]*)"', header))
        wanted = md5(md5(user, REALM, password), NONCE, md5(method, uri))
        return (given.get("username"), given.get("response")) == (user, wanted)

    def _play(self) -> None:
        sequence, began = 0, time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            while not self._camera.stopping.wait(1 / self._camera.fps):
                self._camera.number += 1
                jpeg, stamp = self._camera.jpeg(self._camera.number), int((time.monotonic() - began) * CLOCK)
                packets = rtp_packets(jpeg, self._camera.size, sequence, stamp)
                sequence += len(packets)
                self._send(b"".join(struct.pack(">cBH", b"$", 0, len(packet)) + packet for packet in packets))

    def _send(self, data: bytes) -> None:
        with self._writing:
            self._handler.wfile.write(data)
