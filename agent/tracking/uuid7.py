"""Identifiers that sort by time: UUID version 7."""

from __future__ import annotations

RANDOM_BYTES = 8


def uuid7(at: float, random: bytes) -> str:
    """The UUIDv7 of the moment ``at`` (UNIX seconds), as text. Raises ValueError unless ``random`` has 8 bytes.

    RFC 9562, 5.7: 48 bits of milliseconds, 12 bits of a millisecond's fraction (its 6.2, method 3, so that what
    begins within one millisecond sorts too), 62 random bits. A time before 1970 counts as 1970.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"{RANDOM_BYTES} random bytes are needed, got {len(random)}")
    ticks = int(max(at, 0.0) * 1000.0 * 4096.0)
    time, fraction = (ticks >> 12) & (2**48 - 1), ticks & 0xFFF
    noise = int.from_bytes(random, "big") & (2**62 - 1)
    text = f"{time << 80 | 7 << 76 | fraction << 64 | 2 << 62 | noise:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
