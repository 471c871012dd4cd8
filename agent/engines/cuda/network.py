"""The contract of a network on a device: it reads and writes device memory, on a stream, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from agent.engines.base import TensorSpec


class Bound(Protocol):
    """A network on certain addresses, for a certain batch."""

    def enqueue(self, stream: int) -> None:
        """Give the stream (by its handle) one inference; returns at once. Raises EngineError."""

    def close(self) -> None:
        """Free what belongs to these addresses. Safe to call twice."""


class Network(Protocol):
    """``concurrent``: whether bindings may run beside each other, or share memory and have to run one after the other.

    ``capturable``: whether all of an inference is work for the stream, so that a CUDA graph can hold it.
    ``max_batch``: None for no limit; where the input's first axis is fixed, it is that.
    """

    backend: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    max_batch: int | None
    concurrent: bool
    capturable: bool

    def shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """The outputs' shapes for a batch. Raises EngineError where they depend on the pictures."""

    def bind(self, batch: int, source: int, targets: Mapping[str, int]) -> Bound:
        """For an input at the device address ``source`` and outputs at ``targets``. Raises EngineError."""

    def close(self) -> None:
        """Free what it holds. Safe to call twice."""
