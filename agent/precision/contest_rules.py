"""Which engine runs which precision on this processor, and which precision works: pure rules on measured figures.

Measuring is contest_child.py's work, changing engines contest.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from agent.engines.on_processor import BF16, SHOWN, Backend
from agent.precision.gate import LEAST_SPEEDUP, Verdict, judge
from agent.precision.match import Option, choose

Entry = tuple[str, Backend]
"""A precision on an engine."""
TOPS = ("fp32", BF16)
"""What works where nothing is in its way; what else passes the gate is there for the governor to go down to."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured: the package's folder, the threads of an inference, the entries."""

    folder: str
    threads: int
    entries: tuple[Entry, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds`` of the quickest inference; None with a ``fault``."""

    entry: Entry
    seconds: float | None = None
    fault: str = ""


class Standing(NamedTuple):
    """Of a precision: accuracy lost, how much may be, whether that counts, and whether the user named it."""

    loss: float | None
    limit: float
    forced: bool = False
    named: bool = False


class Outcome(NamedTuple):
    """``engines``: that of each precision that may be used, ``seconds``: an inference on it; ``told``: of each that was
    measured; ``top``: the precision to use, and ``why``."""

    engines: Mapping[str, Backend]
    seconds: Mapping[str, float]
    told: Mapping[str, str]
    top: str
    why: str


def decide(results: Mapping[Entry, Result], standings: Mapping[str, Standing]) -> Outcome:
    """Of each precision the fastest engine, of the precisions those that the gate lets through, of fp32 and bf16 the
    faster one. Raises ValueError where nothing could be measured."""
    fastest = {name: entry for name in standings if (entry := _fastest(results, name)) is not None}
    if not fastest:
        raise ValueError("; ".join(dict.fromkeys(one.fault for one in results.values())) or "nothing was measured")
    seconds = {name: _seconds(results, entry) for name, entry in fastest.items()}
    base = seconds.get("fp32")
    verdicts = {name: _verdict(standings[name], name, seconds[name], base) for name in fastest}
    engines = {name: fastest[name][1] for name, verdict in verdicts.items() if verdict.usable}
    told = {name: f"{_word(verdict)}; {_figures(results, name)}" for name, verdict in verdicts.items()}
    options = [
        Option(name, seconds[name], standings[name].loss, "" if name in engines else verdicts[name].reason)
        for name in (TOPS if any(name in engines for name in TOPS) else fastest)
        if name in fastest
    ]
    choice = choose(options, None)
    engine = SHOWN[engines[choice.precision]]
    others = "; ".join(f"{name}: {why}" for name, why in choice.others.items())
    figures = _figures(results, choice.precision)
    why = f"{choice.precision} runs on {engine}, its fastest engine here ({figures})"
    why += f"; {choice.precision} is {choice.why} ({others})" if others else ""
    return Outcome(engines, {name: seconds[name] for name in engines}, told, choice.precision, why)


def _fastest(results: Mapping[Entry, Result], precision: str) -> Entry | None:
    """ONNX Runtime, which is there already, where it is about as fast."""
    measured = [entry for entry, one in results.items() if entry[0] == precision and one.seconds is not None]
    if not measured:
        return None
    best = min(measured, key=lambda entry: _seconds(results, entry))
    stays = next((entry for entry in measured if entry[1] == "onnxruntime"), best)
    return stays if _seconds(results, stays) < _seconds(results, best) * LEAST_SPEEDUP else best


def _verdict(standing: Standing, precision: str, seconds: float, base: float | None) -> Verdict:
    if precision == "fp32":
        return Verdict(True, "the measure of the others")
    if base is None:
        return Verdict(True, "chosen by the configuration")
    verdict = judge(standing.loss, base / seconds, standing.limit, forced=standing.forced)
    if standing.named and not verdict.usable:
        return Verdict(True, f"FORCED by the configuration although it {verdict.reason}")
    return verdict


def _word(verdict: Verdict) -> str:
    return verdict.reason if verdict.usable else f"refused: {verdict.reason}"


def _figures(results: Mapping[Entry, Result], precision: str) -> str:
    """What each engine took, or why it could not."""
    found = [(entry[1], one) for entry, one in results.items() if entry[0] == precision]
    return ", ".join(
        f"{SHOWN[backend]} {one.fault}" if one.seconds is None else f"{SHOWN[backend]} {one.seconds * 1e3:.2f} ms"
        for backend, one in found
    )


def _seconds(results: Mapping[Entry, Result], entry: Entry) -> float:
    seconds = results[entry].seconds
    assert seconds is not None
    return seconds
