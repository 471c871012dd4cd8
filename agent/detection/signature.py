"""minisign's keys and signatures, read and checked: Ed25519 by the cryptography package, of a file or of its BLAKE2b.

Where a signature comes from, and what must have one, is delivery.py's. The format: https://jedisct1.github.io/minisign/.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import AgentError, ConfigError, ModelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LEGACY, PREHASHED = b"Ed", b"ED"
PRINTED_KEY = re.compile("RW[A-Za-z0-9+/]{54}")
TRUSTED = "trusted comment: "
LARGEST_LEGACY = 256 << 20
"""Bytes that are held in memory to check a signature that is not prehashed."""
LONGEST = 8192
"""Characters of a signature's file; a real one has 300."""


class PublicKey(NamedTuple):
    """``id``: 8 bytes by which signatures name it; ``key``: 32 bytes."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign prints it."""
        return _shown(self.id)


class Signature(NamedTuple):
    """Of a file's content, or, where ``prehashed``, of its BLAKE2b-512; ``seal``: of the signature and the comment."""

    prehashed: bool
    key_id: bytes
    signature: bytes
    comment: str
    seal: bytes


def read_key(text: str, what: str) -> PublicKey:
    """A key as minisign prints it (``RW…``, 56 characters), or the path of its ``.pub`` file.

    ``what`` begins the message. Raises ConfigError, MissingError's kind of it included: a key that is named must be
    there.
    """
    if not PRINTED_KEY.fullmatch(text.strip()) and ("/" in text or text.endswith(".pub")):
        text = _key_line(Path(text).expanduser(), what)
    content = _base64(text.strip())
    if content is None or len(content) != 42 or content[:2] != LEGACY:
        raise ConfigError(f"{what}: not a key of minisign's, which begins with RW and has 56 characters (minisign -G)")
    return PublicKey(content[2:10], content[10:])


def read_signature(text: str, origin: str) -> Signature:
    """The content of a ``.minisig`` file. Raises ModelError, which begins with ``origin``."""
    lines = text.splitlines() if len(text) <= LONGEST else []
    content, seal = (_base64(lines[1]), _base64(lines[3])) if len(lines) >= 4 else (None, None)
    good = content is not None and seal is not None and len(content) == 74 and len(seal) == 64
    if not good or content is None or seal is None or not lines[2].startswith(TRUSTED):
        raise ModelError(f"{origin}: not a signature of minisign's; sign it anew: minisign -S -m FILE")
    if content[:2] not in (LEGACY, PREHASHED):
        raise ModelError(f"{origin}: signed by an unknown algorithm; sign it anew: minisign -S -m FILE")
    return Signature(content[:2] == PREHASHED, content[2:10], content[10:], lines[2].removeprefix(TRUSTED), seal)


def verify(file: Path, signature: Signature, keys: Sequence[PublicKey], origin: str) -> str:
    """The trusted comment, where one of the keys signed the file and the comment.

    Raises ModelError where none did, AgentError without the cryptography package.
    """
    key = next((key for key in keys if key.id == signature.key_id), None)
    if key is None:
        known = ", ".join(key.name for key in keys)
        raise ModelError(f"{origin}: signed by key {_shown(signature.key_id)}, which is not trusted here ({known})")
    public = _ed25519(key)
    if not (_signed(public, file, signature) and _sealed(public, signature)):
        raise ModelError(f"{origin}: the signature is not of {file.name} as it is here; it was damaged or changed")
    return signature.comment


def _signed(public: Ed25519PublicKey, file: Path, signature: Signature) -> bool:
    with file.open("rb") as content:
        if signature.prehashed:
            digest = hashlib.blake2b()
            while block := content.read(1 << 20):
                digest.update(block)
            return _holds(public, signature.signature, digest.digest())
        if file.stat().st_size > LARGEST_LEGACY:
            raise ModelError(f"{file.name}: too large for a legacy signature; sign it anew: minisign -S -H -m FILE")
        return _holds(public, signature.signature, content.read())


def _sealed(public: Ed25519PublicKey, signature: Signature) -> bool:
    return _holds(public, signature.seal, signature.signature + signature.comment.encode())


def _holds(public: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _ed25519(key: PublicKey) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise AgentError(
            "checking a signature needs the cryptography package: pip install 'edgewarden[signed]'"
        ) from None
    return Ed25519PublicKey.from_public_bytes(key.key)


def _key_line(path: Path, what: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{what}: {path}: {reason}; name the .pub file that minisign -G wrote, or the key") from None
    return next((line for line in lines if line.strip() and not line.startswith("untrusted comment:")), "")


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _shown(key_id: bytes) -> str:
    return key_id[::-1].hex().upper()
