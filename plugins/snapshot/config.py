"""The keys of ``[plugins.snapshot]``; what they mean stands in README.md."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Bytes = Annotated[int, Meta(ge=1 << 16)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[plugins.snapshot.keep]]``: what a camera's or a label's pictures may take, beside what all may. Empty means
    any; None, without limit."""

    camera: str = ""
    label: str = ""
    max_bytes: Bytes | None = None
    max_count: Count | None = None
    max_age: Seconds | None = None


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.snapshot.clip]``: seconds before and after, pictures a second, their width, bytes of memory."""

    before: Annotated[float, Meta(ge=0, le=60)] = 5.0
    after: Annotated[float, Meta(ge=0, le=60)] = 5.0
    longest: Annotated[float, Meta(gt=0, le=600)] = 60.0
    fps: Annotated[float, Meta(gt=0, le=60)] = 8.0
    width: Annotated[int, Meta(ge=64, le=3840)] = 960
    memory: Annotated[int, Meta(ge=1 << 20)] = 64 << 20
    format: Literal["mp4", "webm", "avi"] = "mp4"
    cameras: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class SnapshotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.snapshot]``. ``max_bytes``: of all in the folder; an empty folder is one in the state_dir.
    ``min_free``: bytes that stay free on its disk, None for a twentieth of it, 256 MB at most."""

    folder: str = ""
    quality: Annotated[int, Meta(ge=10, le=100)] = 90
    max_bytes: Bytes = 1 << 30
    max_count: Count | None = None
    max_age: Seconds | None = None
    min_free: Annotated[int, Meta(ge=0)] | None = None
    keep: tuple[Keep, ...] = ()
    clip: Clip | None = None

    def keeps(self) -> tuple[Keep, ...]:
        """What all may take, and what the table says of some."""
        return (Keep(max_bytes=self.max_bytes, max_count=self.max_count, max_age=self.max_age), *self.keep)
