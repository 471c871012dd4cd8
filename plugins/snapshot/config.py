"""The keys of ``[plugins.snapshot]``; what they mean stands in README.md."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class SnapshotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.snapshot]``. ``max_bytes``: of all pictures in the folder; an empty folder is one in the state_dir."""

    folder: str = ""
    quality: Annotated[int, Meta(ge=10, le=100)] = 90
    max_bytes: Annotated[int, Meta(ge=1 << 16)] = 1 << 30
