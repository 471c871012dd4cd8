"""The first bytes of a TensorRT plan: which library wrote it, in which version. Read before anything is deserialized.

Rests on observation, not on a specification: TensorRT 8 to 11 begin with ``ftrt``, TensorRT-RTX with ``vtrt``, and the
four bytes from offset 24 on are the version of the library.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.errors import EngineError

MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
VERSION_AT = 24
HEADER_BYTES = 28


class PlanHeader(NamedTuple):
    """``flavour``: ``tensorrt`` or ``tensorrt-rtx``. ``version``: major, minor, patch, build."""

    flavour: str
    version: tuple[int, int, int, int]

    @property
    def backend(self) -> str:
        """As ``Flavour.backend`` says it, always with four numbers."""
        return f"{self.flavour} {'.'.join(map(str, self.version))}"


def read_header(plan: bytes) -> PlanHeader:
    """What the first ``HEADER_BYTES`` bytes say. Raises EngineError for what is no plan."""
    flavour = MAGIC.get(bytes(plan[:4]))
    if flavour is None or len(plan) < HEADER_BYTES:
        raise EngineError(f"not a TensorRT plan: it begins with {bytes(plan[:4])!r}, {len(plan)} bytes were there")
    major, minor, patch, build = plan[VERSION_AT:HEADER_BYTES]
    return PlanHeader(flavour, (major, minor, patch, build))


def header_fault(plan: bytes, backend: str) -> str:
    """Why this ``backend`` (``tensorrt 10.3.0``) must not be given this plan; empty where it may.

    Some versions are told with three numbers, some with more: those that both have are compared.
    """
    try:
        header = read_header(plan)
    except EngineError as error:
        return str(error)
    flavour, _, version = backend.partition(" ")
    here = tuple(int(part) if part.isdigit() else part for part in version.split(".")[:4])
    if header.flavour != flavour or header.version[: len(here)] != here:
        return f"its header says {header.backend}, here is {backend}"
    return ""
