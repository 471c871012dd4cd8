"""Signs files as minisign does, for tests; that minisign itself signs so, test_delivery.py shows."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_ID = bytes(range(8))


class Signer:
    """Signs as minisign does, with a key of its own."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        public = self._private.public_key().public_bytes_raw()
        self.key = base64.b64encode(b"Ed" + KEY_ID + public).decode()

    def sign(self, file: Path, *, legacy: bool = False, comment: str = "made by a test") -> Path:
        content = file.read_bytes()
        signature = self._private.sign(content if legacy else hashlib.blake2b(content).digest())
        head = base64.b64encode((b"Ed" if legacy else b"ED") + KEY_ID + signature).decode()
        seal = base64.b64encode(self._private.sign(signature + comment.encode())).decode()
        target = file.with_name(file.name + ".minisig")
        target.write_text(f"untrusted comment: x\n{head}\ntrusted comment: {comment}\n{seal}\n")
        return target
