from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from graphs import brightness_graph, float_value, node, save
from numpy.typing import NDArray

from agent.engines import onnx
from agent.engines.base import Engine, PooledEngine, TensorSpec
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError

ONES = np.ones((2, 3), np.float32)


def picture(value: float, count: int = 1) -> NDArray[np.float32]:
    return np.full((count, 3, 48, 64), value, np.float32)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return brightness_graph(tmp_path / "tiny.onnx", ONES, ONES, metadata={"names": "{0: 'cup'}"})


def assert_one_line(error: pytest.ExceptionInfo[EngineError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_outputs_come_by_name_and_the_specs_say_what_the_graph_takes(graph: Path) -> None:
    engine = OnnxEngine(graph)
    assert isinstance(engine, Engine)
    assert engine.input == TensorSpec("images", (1, 3, 48, 64), "float32")
    assert engine.outputs == (TensorSpec("output", (1, 2, 3), "float32"),)
    assert (engine.slots, engine.max_batch) == (1, 1)
    assert engine.backend.startswith("onnxruntime ")
    assert engine.backend.endswith("CPUExecutionProvider")
    assert engine.metadata["names"] == "{0: 'cup'}"
    outputs = engine.collect(engine.submit(picture(2.0)))
    np.testing.assert_array_equal(outputs["output"].astype(np.float32), np.full((1, 2, 3), 3.0))


def test_a_graph_of_open_batch_takes_any_number_of_pictures(tmp_path: Path) -> None:
    engine = OnnxEngine(brightness_graph(tmp_path / "tiny.onnx", ONES, ONES, batch="n", open_size=True))
    assert engine.input.shape == (None, 3, None, None)
    assert engine.max_batch is None
    outputs = engine.collect(engine.submit(np.concatenate([picture(value) for value in (0, 1, 2)])))
    np.testing.assert_array_equal(outputs["output"][:, 0, 0].astype(np.float32), [1, 2, 3])


def test_several_slots_give_each_ticket_its_own_outputs(graph: Path) -> None:
    engine = OnnxEngine(graph, slots=3)
    tickets = [engine.submit(picture(value)) for value in (1, 2, 3)]
    found = [engine.collect(ticket)["output"].ravel()[0] for ticket in reversed(tickets)]
    np.testing.assert_allclose(found, [4, 3, 2])
    engine.close()


@pytest.mark.parametrize("slots", [1, 2])
def test_a_submit_beyond_the_slots_is_refused_and_a_collect_makes_room(graph: Path, slots: int) -> None:
    engine = OnnxEngine(graph, slots=slots)
    tickets = [engine.submit(picture(0)) for _ in range(slots)]
    with pytest.raises(EngineError, match=f"all {slots} slots are taken"):
        engine.submit(picture(0))
    engine.collect(tickets[0])
    engine.submit(picture(0))
    engine.close()


def test_a_ticket_is_collected_once_and_not_after_close(graph: Path) -> None:
    engine = OnnxEngine(graph)
    ticket = engine.submit(picture(0))
    engine.collect(ticket)
    with pytest.raises(EngineError, match="collected before"):
        engine.collect(ticket)
    other = engine.submit(picture(0))
    engine.close()
    engine.close()
    with pytest.raises(EngineError):
        engine.collect(other)
    with pytest.raises(EngineError, match="closed"):
        engine.submit(picture(0))


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 3, 48, 65), np.float32), np.zeros((2, 3, 48, 64), np.float32), np.zeros((1, 3, 48, 64))]
)
def test_a_batch_of_wrong_shape_or_type_is_refused_with_both_named(graph: Path, batch: NDArray[np.generic]) -> None:
    with pytest.raises(EngineError) as error:
        OnnxEngine(graph).submit(batch)
    assert_one_line(error, "tiny.onnx", "images", "[1, 3, 48, 64] float32", batch.dtype.name)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text\n" * 20, b"\x08\x08\x12\x07pytorch"])
def test_a_file_that_is_no_onnx_is_named_in_one_line(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError) as error:
        OnnxEngine(path)
    assert_one_line(error, "notes.onnx", "not an ONNX file")
    assert capfd.readouterr() == ("", "")


def test_a_truncated_onnx_is_named_as_damaged(graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-200])
    with pytest.raises(EngineError) as error:
        OnnxEngine(graph)
    assert_one_line(error, "tiny.onnx")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such file"):
        OnnxEngine(tmp_path / "nothing.onnx")
    with pytest.raises(EngineError, match="is a folder"):
        OnnxEngine(tmp_path)


@pytest.mark.parametrize(("operator", "opset"), [("Teleport", 17), ("Relu", 99)])
def test_an_operator_or_opset_that_onnx_runtime_does_not_know_is_said_to_be_that(
    tmp_path: Path, operator: str, opset: int
) -> None:
    value = float_value("x", [1, 3, 4, 4])
    path = save(tmp_path / "new.onnx", [node(operator, ["x"], ["y"])], [value], [float_value("y", None)], opset=opset)
    with pytest.raises(EngineError) as error:
        OnnxEngine(path)
    assert_one_line(error, "new.onnx", "does not know")


def test_a_graph_with_two_inputs_is_refused(tmp_path: Path) -> None:
    values = [float_value(name, [1, 3, 4, 4]) for name in ("left", "right")]
    path = save(tmp_path / "two.onnx", [node("Add", ["left", "right"], ["y"])], values, [float_value("y", None)])
    with pytest.raises(EngineError) as error:
        OnnxEngine(path)
    assert_one_line(error, "two.onnx", "left, right")


@pytest.mark.parametrize("slots", [1, 2])
def test_a_graph_that_fails_while_running_is_one_line_and_its_slot_is_free_again(
    tmp_path: Path, slots: int, capfd: pytest.CaptureFixture[str]
) -> None:
    value = float_value("x", ["n", 3, 4, 4])
    nodes = [node("Constant", [], ["shape"], value_ints=[2, 24]), node("Reshape", ["x", "shape"], ["y"])]
    engine = OnnxEngine(save(tmp_path / "odd.onnx", nodes, [value], [float_value("y", None)]), slots=slots)
    for _ in range(slots + 1):
        with pytest.raises(EngineError) as error:
            engine.collect(engine.submit(np.zeros((2, 3, 4, 4), np.float32)))
        assert_one_line(error, "odd.onnx", "failed while running")
    engine.collect(engine.submit(np.zeros((1, 3, 4, 4), np.float32)))
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_an_unknown_device_is_refused_with_those_that_exist(graph: Path) -> None:
    with pytest.raises(EngineError, match="no device 'tpu', only cpu"):
        OnnxEngine(graph, device="tpu")


def test_every_real_detector_loads_without_a_word_on_stderr(material: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in sorted((material / "models").glob("*.onnx")):
        OnnxEngine(path, threads=1).close()
    assert capfd.readouterr() == ("", "")


def test_tensorrts_provider_comes_first_where_its_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnx, "_tensorrt_is_there", lambda: False)
    assert onnx._providers("cuda", Path("m.onnx"), available) == available[1:]
    monkeypatch.setattr(onnx, "_tensorrt_is_there", lambda: True)
    assert onnx._providers("cuda", Path("m.onnx"), available) == available
    said = {"device_id": "0", "user_compute_stream": "7", "use_tf32": "1"}
    assert onnx._options_of("TensorrtExecutionProvider", said) == {"device_id": "0", "user_compute_stream": "7"}
    assert onnx._options_of("CPUExecutionProvider", said) == {}


def test_without_onnx_runtime_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = brightness_graph(tmp_path / "m.onnx", np.ones(3, np.float32))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"ONNX Runtime cannot be loaded .*pip install 'edgewarden\[cpu\]'"):
        OnnxEngine(path)


def test_workers_change_between_batches_and_whoever_asks_is_told_when_one_is_done(graph: Path) -> None:
    engine = OnnxEngine(graph, threads=1)
    told = threading.Event()
    engine.when_done(told.set)
    assert isinstance(engine, PooledEngine)
    batch = np.zeros([side or 1 for side in engine.input.shape], np.float32)
    alone = engine.submit(batch)
    assert engine.done(alone)
    with pytest.raises(EngineError, match="1 inference"):
        engine.spread(2)
    whole = engine.collect(alone)
    assert not told.is_set(), "it was done before submit returned"
    engine.spread(2, ahead=1)
    assert (engine.workers, engine.slots, engine.threads) == (2, 3, 1)
    tickets = [engine.submit(batch) for _ in range(3)]
    assert told.wait(10)
    for ticket in tickets:
        for name, array in engine.collect(ticket).items():
            np.testing.assert_array_equal(array, whole[name])
        assert engine.done(ticket)
    engine.spread(1)
    assert engine.done(engine.submit(batch))
    engine.close()
