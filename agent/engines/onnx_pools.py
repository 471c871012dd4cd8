"""Pooling pyramids, each level made of the one below: the same maxima in fewer comparisons.

YOLOX and others (spatial pyramid pooling) take the greatest of 5 x 5, of 9 x 9 and of 13 x 13 around each place. The
greatest of the greatest of 5 x 5 around each place is that of 9 x 9, and so on: 75 comparisons instead of 275. Which of
many numbers is the greatest does not depend on the order, so that nothing changes in what comes out. What does not look
exactly so is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from agent.engines.onnx_file import with_graph
from agent.engines.onnx_graph import Graph, Node


def chained_pools(content: bytes) -> bytes | None:
    """An ONNX file's bytes with its pools over one value chained; None where there are none, or no ONNX file is."""
    return with_graph(content, _chained)


def _chained(data: memoryview) -> bytes | None:
    graph = Graph(data)
    nodes: dict[int, Node] = {}
    parts: dict[int, bytes] = {}
    for places in _pyramids(graph):
        pools = [graph.nodes[at] for at in places]
        written = [graph.rewritten(places[0], pools[0], {})]
        for at, (below, pool) in zip(places[1:], pairwise(pools), strict=True):
            nodes[at] = pool._replace(inputs=(below.outputs[0],))
            reach = _reach(below, pool)
            pads = [side // 2 for side in reach] * 2
            lengths = {"kernel_shape": [side + 1 for side in reach], "pads": pads}
            written.append(graph.rewritten(at, nodes[at], lengths))
        # All stand where the first one stood, so that each comes after what it is made of and before who needs it.
        parts |= dict.fromkeys(places, b"") | {min(places): b"".join(written)}
    return graph.changed(nodes, parts) if nodes else None


def _pyramids(graph: Graph) -> Iterator[list[int]]:
    """Places of pools over one value, of which each is larger than the one before along both sides."""
    over: dict[str, list[int]] = defaultdict(list)
    for at, node in graph.nodes.items():
        if node.operator == "MaxPool" and _keeps_size(node):
            over[node.inputs[0]].append(at)
    for name, places in over.items():
        maker = graph.maker.get(name)
        if maker is not None and maker.operator == "DequantizeLinear":
            continue  # of numbers that are made of bytes, and bytes again behind it, a runtime pools the bytes
        chain: list[int] = []
        for at in sorted(places, key=lambda at: _sides(graph.nodes[at])):
            if not chain or min(_reach(graph.nodes[chain[-1]], graph.nodes[at])) > 0:
                chain.append(at)
        if len(chain) > 1:
            yield chain


def _reach(below: Node, pool: Node) -> list[int]:
    """By how much a pool's sides exceed those of another."""
    return [more - less for more, less in zip(_sides(pool), _sides(below), strict=True)]


def _sides(pool: Node) -> tuple[int, ...]:
    return pool.numbers["kernel_shape"]


def _keeps_size(pool: Node) -> bool:
    """Whether it takes the greatest of odd sides around each place, padded alike all around, and tells nothing else."""
    known = pool.numbers
    sides = known.get("kernel_shape", ())
    return (
        len(sides) == 2
        and all(side % 2 for side in sides)
        and known.get("pads") == tuple(side // 2 for side in sides) * 2
        and {*known.get("strides", (1,)), *known.get("dilations", (1,))} == {1}
        and pool.texts.get("auto_pad", "NOTSET") == "NOTSET"
        and len(pool.outputs) == 1
    )
