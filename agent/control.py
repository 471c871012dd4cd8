"""What the running daemon can be told: pause, resume, limit, reload, ping. Arguments are checked before they get here.

Who may ask, and how the answer travels, is the asker's (the mqtt plugin, say). Handlers may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent.data import Decision
from agent.errors import ConfigError
from agent.governor.limits import Limits, Rung, clamp

Answer = dict[str, Any]


class NoArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``ping`` and ``reload`` take nothing."""


class CameraArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pause`` and ``resume``: one camera, or all of them."""

    camera: Annotated[str, Meta(max_length=200)] | None = None


class LimitArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``limit``: ``fps`` inferences a second in all; ``rung``: the highest of the ladder, 0 is its top. null lifts a
    limit, one that is left out stays."""

    fps: Annotated[float, Meta(gt=0, le=1000)] | UnsetType | None = UNSET
    rung: Annotated[int, Meta(ge=0, le=100)] | UnsetType | None = UNSET


class Driven(Protocol):
    """The part of the pipeline that commands act on."""

    def pause(self, camera: str | None, paused: bool) -> list[str]:
        """Stop or go on inferring a camera's frames, or all cameras'; the names of those concerned."""

    def aim(self, decision: Decision) -> None:
        """What holds from the next frame on."""


class Control:
    """The commands of one daemon. ``reload`` begins one, its Future says how it went; ``decided`` is told every new
    decision."""

    def __init__(
        self,
        pipeline: Driven,
        ladder: Sequence[Rung],
        reload: Callable[[], Future[Answer]],
        decided: Callable[[Decision], None],
    ) -> None:
        self._pipeline = pipeline
        self._ladder = tuple(ladder)
        self._reload = reload
        self._decided = decided
        self._lock = threading.Lock()
        self._limits = Limits()
        self._wanted, self._reason = 0, "no limit"
        self.decision = clamp(self._ladder, self._limits, self._wanted, self._reason)

    def govern(self, rung: int, reason: str) -> None:
        """What the governor wants from now on; the limits stand above it."""
        with self._lock:
            # The ladder may have been replaced since it was asked for.
            self._wanted, self._reason = min(rung, len(self._ladder) - 1), reason
            self._settle(self._limits)

    def _settle(self, limits: Limits) -> None:
        """Raises ValueError for a rung that the ladder has not; nothing changes then."""
        before = self.decision
        self.decision = clamp(self._ladder, limits, self._wanted, self._reason)
        self._limits = limits
        # Why it holds is told anew every second; that changes nothing.
        if msgspec.structs.replace(self.decision, reason="") != msgspec.structs.replace(before, reason=""):
            self._pipeline.aim(self.decision)
            self._decided(self.decision)

    def commands(self) -> Mapping[str, tuple[type[msgspec.Struct], Callable[[Any], Answer | Future[Answer]]]]:
        """By name: the struct of the arguments, and what is done with them."""
        return {
            "ping": (NoArgs, self._ping),
            "pause": (CameraArgs, lambda args: self._pause(args, True)),
            "resume": (CameraArgs, lambda args: self._pause(args, False)),
            "limit": (LimitArgs, self._limit),
            "reload": (NoArgs, lambda _args: self._reload()),
        }

    def _ping(self, _args: NoArgs) -> Answer:
        return {"at": time.time(), "version": version("edgewarden")}

    def _pause(self, args: CameraArgs, paused: bool) -> Answer:
        names = self._pipeline.pause(args.camera, paused)
        if not names:
            raise ConfigError(f"camera: there is none called {args.camera!r}")
        return {"paused" if paused else "resumed": names}

    def _limit(self, args: LimitArgs) -> Answer:
        with self._lock:
            wanted = Limits(
                fps=self._limits.fps if args.fps is UNSET else args.fps,
                rung=self._limits.rung if args.rung is UNSET else args.rung,
            )
            try:
                self._settle(wanted)
            except ValueError as error:
                raise ConfigError(f"{error}; the ladder has {len(self._ladder)} rung(s)") from None
        return {"fps": wanted.fps, "rung": wanted.rung}

    def climb(self, ladder: Sequence[Rung]) -> None:
        """Another ladder, after a reload; limits stay, but none lies below its lowest rung."""
        with self._lock:
            self._ladder = tuple(ladder)
            lowest = len(self._ladder) - 1
            self._wanted = min(self._wanted, lowest)
            rung = self._limits.rung
            self._settle(self._limits._replace(rung=None if rung is None else min(rung, lowest)))
            self._pipeline.aim(self.decision)  # also where only the engines are others
