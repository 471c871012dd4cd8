"""Which precisions may be used: pure rules on measured figures. Measuring is the other modules' work."""

from __future__ import annotations

from typing import NamedTuple

MAX_LOSS = 0.02
"""How much accuracy a variant may lose against fp32: absolute mAP50-95, or 1 - F1 without ground truth."""
LEAST_SPEEDUP = 1.05
"""How much faster than fp32 a variant must be on this machine to be worth its loss."""
LEAST_INT8_SHARE = 0.6
"""Share of the multiply-accumulates from which a variant is called int8; below it is called mixed."""


class Verdict(NamedTuple):
    """Whether a variant may be used, and why (not)."""

    usable: bool
    reason: str


def judge(loss: float | None, speedup: float | None, max_loss: float = MAX_LOSS, *, forced: bool = False) -> Verdict:
    """The gate. None is what could not be measured, and counts as refused."""
    against = [reason for reason in (_accuracy(loss, max_loss), _speed(speedup)) if reason]
    if not against:
        return Verdict(True, f"loses {_signed(loss)}, {speedup:.2f} x as fast as fp32")
    if forced:
        return Verdict(True, f"FORCED although it {' and '.join(against)}")
    return Verdict(False, " and ".join(against))


def judge_accuracy(loss: float | None, max_loss: float = MAX_LOSS, *, forced: bool = False) -> Verdict:
    """The gate's first half, for engines whose speed is known only when they are built."""
    against = _accuracy(loss, max_loss)
    if not against:
        return Verdict(True, f"loses {_signed(loss)}")
    return Verdict(True, f"FORCED although it {against}") if forced else Verdict(False, against)


def _accuracy(loss: float | None, max_loss: float) -> str:
    if loss is None:
        return "was never measured for accuracy"
    # A loss that is not a number is refused as well.
    return "" if loss <= max_loss else f"loses {_signed(loss)} of accuracy, more than {max_loss:g}"


def _speed(speedup: float | None) -> str:
    if speedup is None:
        return "was never measured for speed on this machine"
    return "" if speedup >= LEAST_SPEEDUP else f"is {speedup:.2f} x as fast as fp32 here, less than {LEAST_SPEEDUP:g} x"


def _signed(loss: float | None) -> str:
    return "nothing" if loss is not None and loss <= 0 else f"{loss:.4f}"
