"""What TensorRT's parser says of a graph that it refuses, translated into what the user can do about it.

Pure: faults as plain values in, one line out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from agent.engines.onnx_file import OnnxFile

OLDEST_OPSET, NEWEST_OPSET = 7, 24
"""What TensorRT 8.6 to 11 read; the newest grows with each release."""
DYNAMIC_INT8 = {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
QUANTISED_OPERATORS = {"QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm"}
DETECTION_ENDS = {"EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT", "YoloLayer_TRT"}


class ParserFault(NamedTuple):
    """One error of the parser. ``code``: the enum member's name; ``place``: number of the node, -1 for the whole graph;
    ``node`` and ``operator`` are empty where this version does not name them."""

    code: str
    text: str
    place: int
    node: str = ""
    operator: str = ""


def refusal(path: Path, graph: OnnxFile, faults: Sequence[ParserFault], backend: str) -> str:
    """One line: which node of which operator, how many more, the opset, and what to do."""
    if not faults:
        return f"{path}: {backend} refuses the graph and does not say why (opset {graph.opset}); {_fallback()}"
    named = [_named(fault, graph) for fault in faults]
    first = next((fault for fault in named if fault.operator), named[0])
    place = f"node {first.node} ({first.operator})" if first.operator else "the graph"
    others = _others(named, first)
    reason = "" if first.code.startswith("UNSUPPORTED_NODE") and len(first.text) < 12 else f": {_short(first.text)}"
    do = advice(first, named, graph)
    return f"{path}: {backend} cannot run {place}{reason}{others}, opset {graph.opset}; {do}"


def advice(first: ParserFault, faults: Sequence[ParserFault], graph: OnnxFile) -> str:
    """What the user can do about it."""
    operators = {fault.operator for fault in faults}
    everywhere = operators | {node.operator for node in graph.nodes}
    if operators & DYNAMIC_INT8:
        return (
            "this is dynamic int8, made for CPUs: add the float export of the model and let "
            "`edgewarden model prepare` make its int8 variant"
        )
    if operators & QUANTISED_OPERATORS:
        return (
            "this is int8 in ONNX Runtime's own operators: add the float export and let `edgewarden model prepare` "
            "make int8 with QuantizeLinear and DequantizeLinear"
        )
    if operators & DETECTION_ENDS or first.operator.endswith("_TRT"):
        return "this end of the graph is a plugin of TensorRT that is not here; export the model without its NMS"
    if "DequantizeLinear" in operators and "zero" in first.text.lower():
        return "TensorRT wants symmetric int8; let `edgewarden model prepare` make it from the float export"
    if first.code == "UNSUPPORTED_NODE_DYNAMIC":
        return "export the model with a fixed size, or give --size to `edgewarden model add`"
    if first.code == "UNSUPPORTED_NODE_DATATYPE":
        return "export the model in float32; `edgewarden model prepare` makes the other precisions"
    if not OLDEST_OPSET <= graph.opset <= NEWEST_OPSET:
        return f"export the model at an opset from 13 to 17, not {graph.opset}"
    if "NonMaxSuppression" in everywhere and first.code == "UNSUPPORTED_NODE":
        return "export the model without its NMS: the detector does that"
    return _fallback()


def _fallback() -> str:
    return "export the model at opset 17, fixed size, without post-processing, or keep ONNX Runtime for it"


def _named(fault: ParserFault, graph: OnnxFile) -> ParserFault:
    """With the node's name and operator from the file, where the parser (8.6) tells only its number."""
    if fault.operator or not 0 <= fault.place < len(graph.nodes):
        return fault
    node = graph.nodes[fault.place]
    return fault._replace(node=node.name, operator=node.operator)


def _others(faults: Sequence[ParserFault], first: ParserFault) -> str:
    counts = Counter(fault.operator or "the graph" for fault in faults)
    counts[first.operator or "the graph"] -= 1
    rest = [f"{count} x {operator}" for operator, count in counts.most_common(3) if count > 0]
    return f", and {', '.join(rest)}" if rest else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:157] + "..."
