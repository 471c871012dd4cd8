"""What a file says of itself, read without the onnx package: the same as with it, and no file breaks the reader."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import brightness_graph
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.onnx_file import content_bytes, content_hash, read_onnx
from agent.engines.parser_advice import ParserFault, refusal
from agent.errors import EngineError

MODELS = ["nanodet_m_320", "yolo11n_int8_agpl", "yolox_nano_416", "yunet_n_dynamic"]


@pytest.mark.parametrize("model", MODELS)
def test_nodes_inputs_and_opset_are_those_that_the_onnx_package_reads(material: Path, model: str) -> None:
    path = material / "models" / f"{model}.onnx"
    seen, proto = read_onnx(path), onnx.load(str(path))
    assert [node.operator for node in seen.nodes] == [node.op_type for node in proto.graph.node]
    assert seen.opset == max(one.version for one in proto.opset_import if not one.domain)
    weights = {tensor.name for tensor in proto.graph.initializer}
    expected = [
        (value.name, tuple(axis.dim_value or None for axis in value.type.tensor_type.shape.dim))
        for value in proto.graph.input
        if value.name not in weights
    ]
    assert [tuple(one) for one in seen.inputs] == expected
    assert list(seen.outputs) == [value.name for value in proto.graph.output]
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_bytes(path) == path.stat().st_size


def test_external_weights_are_part_of_what_a_graph_is(tmp_path: Path) -> None:
    path = brightness_graph(tmp_path / "m.onnx", np.arange(64, dtype=np.float32), external=True)
    assert read_onnx(path).external == ("m.bin",)
    before = content_hash(path)
    assert content_bytes(path) > path.stat().st_size
    weights = tmp_path / "m.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert content_hash(path) != before
    weights.unlink()
    with pytest.raises(EngineError, match=r"m\.bin: weights of m\.onnx cannot be read"):
        content_hash(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", ""])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = brightness_graph(tmp_path / "m.onnx", np.arange(64, dtype=np.float32), external=True)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="its weights lie outside its folder"):
        read_onnx(path)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    told = _fault(path)
    assert not told or str(path) in told


@given(st.data())
def test_a_damaged_graph_is_read_or_refused_never_more(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    content = bytearray(brightness_graph(path, np.ones(3, np.float32)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    told = _fault(path)
    assert not told or "not an ONNX file, or a damaged one" in told


def _fault(path: Path) -> str:
    try:
        read_onnx(path)
    except EngineError as error:
        return str(error)
    return ""


def advice_for(path: Path, *faults: ParserFault) -> str:
    told = refusal(path, read_onnx(path), faults, "tensorrt 8.6.1")
    assert "\n" not in told
    return told


def test_an_old_parser_that_tells_but_a_number_gets_the_node_from_the_file(material: Path) -> None:
    path = material / "models" / "yolo11n_int8_agpl.onnx"
    told = advice_for(path, ParserFault("UNSUPPORTED_NODE", "Assertion failed: no importer", 0))
    assert "node images_QuantizeLinear (DynamicQuantizeLinear): Assertion failed" in told
    assert "opset 12" in told
    assert "edgewarden model prepare" in told


@pytest.mark.parametrize(
    ("fault", "way_out"),
    [
        (ParserFault("UNSUPPORTED_NODE", "x", 3, "q", "QLinearConv"), "edgewarden model prepare"),
        (ParserFault("UNSUPPORTED_NODE", "x", 3, "n", "EfficientNMS_TRT"), "export the model without its NMS"),
        (ParserFault("UNSUPPORTED_NODE_DYNAMIC", "x", 3, "r", "Reshape"), "--size"),
        (ParserFault("UNSUPPORTED_NODE_DATATYPE", "x", 3, "c", "Cast"), "float32"),
        (ParserFault("INVALID_NODE", "non-zero zero point", 3, "d", "DequantizeLinear"), "symmetric int8"),
        (ParserFault("INTERNAL_ERROR", "", -1), "keep ONNX Runtime"),
    ],
)
def test_each_kind_of_refusal_has_its_way_out(material: Path, fault: ParserFault, way_out: str) -> None:
    assert way_out in advice_for(material / "models" / "nanodet_m_320.onnx", fault)


def test_a_refusal_without_a_word_still_says_what_to_do(material: Path) -> None:
    told = advice_for(material / "models" / "nanodet_m_320.onnx")
    assert "does not say why (opset 11)" in told
    assert "keep ONNX Runtime" in told
