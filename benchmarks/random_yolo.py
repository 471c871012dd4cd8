"""A network of YOLOv8n's size and form with random weights: 4.3 billion multiply-accumulates at 640 x 640.

    python benchmarks/random_yolo.py OUT.onnx

It finds nothing in particular, at the cost of one that does. A class score is rarely above .1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZE, CLASSES = 640, 80


class Graph:
    """Nodes and weights in the making."""

    def __init__(self, seed: int = 1) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(seed)
        self._count = 0

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        from onnx import helper

        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        """An initializer; its name."""
        from onnx import numpy_helper

        self._count += 1
        self.weights.append(numpy_helper.from_array(value, f"w_{self._count}"))
        return f"w_{self._count}"

    def conv(self, source: str, fan_in: int, out: int, kernel: int = 3, stride: int = 1, bias: float = 0.0) -> str:
        """A convolution."""
        spread = float(np.sqrt(2 / (fan_in * kernel * kernel)))
        weight = self.constant(self._rng.normal(0, spread, (out, fan_in, kernel, kernel)).astype(np.float32))
        shift = self.constant(np.full(out, bias, np.float32))
        pads = [kernel // 2] * 4
        return self.add("Conv", source, weight, shift, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def block(self, source: str, fan_in: int, out: int, stride: int = 1) -> str:
        """Convolution and SiLU."""
        wide = self.conv(source, fan_in, out, 3, stride)
        return self.add("Mul", wide, self.add("Sigmoid", wide))


def random_yolo(path: Path) -> None:
    """Write the graph."""
    import onnx
    from onnx import TensorProto, helper

    graph = Graph()
    x, channels, levels = "images", 3, []
    for wide, repeats in ((16, 0), (32, 2), (64, 4), (128, 4), (256, 2)):
        x = graph.block(x, channels, wide, 2)
        for _ in range(repeats):
            x = graph.block(x, wide, wide)
        channels = wide
        if wide >= 64:
            levels.append((x, wide))
    joined = [head(graph, *level) for level in levels]
    graph.nodes.append(helper.make_node("Concat", joined, ["output0"], axis=2))
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    cells = sum((SIZE // step) ** 2 for step in (8, 16, 32))
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + CLASSES, cells])
    body = helper.make_graph(graph.nodes, "random_yolo", [picture], [output], graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def head(graph: Graph, source: str, channels: int) -> str:
    """Boxes (somewhere in the picture) and class scores of one level, ``[1, 84, cells]``."""
    boxes = graph.block(graph.block(source, channels, 64), 64, 64)
    places = graph.add("Sigmoid", graph.conv(boxes, 64, 4, 1))
    places = graph.add("Mul", places, graph.constant(np.array([SIZE], np.float32)))
    classes = graph.block(graph.block(source, channels, 64), 64, 64)
    scores = graph.add("Sigmoid", graph.conv(classes, 64, CLASSES, 1, bias=-7.0))
    both = graph.add("Concat", places, scores, axis=1)
    return graph.add("Reshape", both, graph.constant(np.array([1, 4 + CLASSES, -1])))


if __name__ == "__main__":
    random_yolo(Path(sys.argv[1]))
