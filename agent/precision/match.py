"""Which precision and which batch suit this board: pure rules on measured figures. Measuring is speed.py's work.

What a GPU computes natively is NVIDIA's table of compute capabilities (TensorRT support matrix, 8.6 to 10.x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.precision.gate import LEAST_SPEEDUP

SLOW_HALF = {(6, 1)}
"""Compute capabilities that have float16, at a fraction of float32's speed."""
NO_INT8 = {(5, 0), (5, 2), (5, 3), (6, 0), (6, 2)}
"""Those without the int8 dot product: Jetson Nano and TX1 (5.3), TX2 (6.2), P100 (6.0)."""
OLDEST_HALF = (5, 3)
WORTH_A_BATCH = 1.05
"""A larger batch must give so many more pictures a second: it costs memory, and time for each picture."""
MEMORY_SHARE = 4
"""A batch may take one part in so many of the free memory."""
NOT_MEASURED = "was not measured here"
WORKING_BYTES = 16
"""Bytes of activations for each byte of input, from detectors that were measured."""


class Option(NamedTuple):
    """A precision that might be used. ``seconds``: an inference on this GPU, None where it was not measured; ``loss``:
    of accuracy against fp32, None where nobody measured it; ``barred``: why the gate does not let it through."""

    precision: str
    seconds: float | None
    loss: float | None = None
    barred: str = ""


class Choice(NamedTuple):
    """The precision to use and why, and of each other one why not."""

    precision: str
    why: str
    others: Mapping[str, str]


def not_native(precision: str, capability: tuple[int, int]) -> str:
    """Why a GPU of that compute capability gains nothing from a precision; empty where it computes it natively."""
    shown = f"{capability[0]}.{capability[1]}"
    if precision == "fp16" and (capability < OLDEST_HALF or capability in SLOW_HALF):
        return f"compute capability {shown} has no fast float16"
    if precision in ("int8", "mixed") and (capability < OLDEST_HALF or capability in NO_INT8):
        return f"compute capability {shown} has no int8 dot product"
    return ""


def _not_native(precision: str, capability: tuple[int, int] | None) -> str:
    return "" if capability is None else not_native(precision, capability)


def choose(options: Sequence[Option], capability: tuple[int, int] | None) -> Choice:
    """Natively run, let through by the gate, and the fastest as measured; of about equal ones what loses least.

    ``capability`` None: the options are a processor's, which was asked before. Raises ValueError where nothing may be
    used.
    """
    others = {one.precision: one.barred or _not_native(one.precision, capability) for one in options}
    allowed = [one for one in options if not others[one.precision]]
    if not allowed:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in others.items()) or "nothing to choose from")
    measured = [one for one in allowed if one.seconds is not None]
    if not measured:
        best = min(allowed, key=_loss)
        others |= {one.precision: NOT_MEASURED for one in allowed}
        return Choice(best.precision, "nothing was measured here yet", _without(others, best))
    fastest = min(one.seconds for one in measured if one.seconds is not None)
    close = [one for one in measured if one.seconds is not None and one.seconds <= fastest * LEAST_SPEEDUP]
    best = min(close, key=_loss)
    for one in allowed:
        others[one.precision] = _slower(one, best)
    return Choice(best.precision, _why(best, measured), _without(others, best))


def choose_batch(rates: Mapping[int, float], picture_bytes: int, free: int) -> tuple[int, str]:
    """The batch at the knee of the measured ``rates`` (pictures a second by batch), as far as memory allows, and why.

    ``picture_bytes``: of one network input. Raises ValueError without a rate of 1.
    """
    if 1 not in rates:
        raise ValueError("the rate of single pictures was not measured")
    most = max(1, free // MEMORY_SHARE // max(1, picture_bytes * WORKING_BYTES))
    best = 1
    for count in sorted(rates):
        if count <= most and rates[count] > rates[best] * WORTH_A_BATCH:
            best = count
    shown = ", ".join(f"{count}: {rate:.0f}" for count, rate in sorted(rates.items()))
    bound = f"; {free >> 20} MB of free memory allow {most}" if most < max(rates) else ""
    return best, f"pictures a second by batch {shown}{bound}"


def _loss(option: Option) -> tuple[float, bool]:
    """What was never measured counts as the most; fp32 is the measure."""
    if option.precision == "fp32":
        return 0.0, False
    return (1.0 if option.loss is None else max(0.0, option.loss)), True


def _why(best: Option, measured: Sequence[Option]) -> str:
    assert best.seconds is not None
    base = next((one.seconds for one in measured if one.precision == "fp32"), None)
    against = f", {base / best.seconds:.2f} x as fast as fp32" if base and best.precision != "fp32" else ""
    loss = "" if best.precision == "fp32" or best.loss is None else f", loses {max(0.0, best.loss):.4f}"
    few = "the fastest measured here" if len(measured) > 1 else "the only one measured here"
    return f"{few}: {best.seconds * 1e3:.2f} ms an inference{against}{loss}"


def _slower(option: Option, best: Option) -> str:
    assert best.seconds is not None
    if option.seconds is None:
        return NOT_MEASURED
    ratio = option.seconds / best.seconds
    if ratio < 1:
        return f"{1 / ratio:.2f} x as fast as {best.precision}, which loses less"
    return f"takes {ratio:.2f} x the time of {best.precision}"


def _without(others: Mapping[str, str], best: Option) -> Mapping[str, str]:
    return {name: why for name, why in others.items() if name != best.precision}
