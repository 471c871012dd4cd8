"""OpenVINO does what the contract of engines says, and finds what ONNX Runtime finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import brightness_graph, float_value, node, save
from numpy.typing import NDArray

from agent.engines import openvino
from agent.engines.base import Engine, PooledEngine, TensorSpec
from agent.engines.onnx import OnnxEngine
from agent.engines.openvino import OpenVinoEngine
from agent.errors import EngineError

ONES = np.ones((2, 3), np.float32)
needs_bf16 = pytest.mark.skipif(not openvino.computes_bf16(), reason="this processor has no bfloat16")


def picture(value: float, count: int = 1) -> NDArray[np.float32]:
    return np.full((count, 3, 48, 64), value, np.float32)


def run(engine: Engine, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {name: array.copy() for name, array in engine.collect(engine.submit(batch)).items()}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return brightness_graph(tmp_path / "tiny.onnx", ONES, ONES)


def assert_one_line(error: pytest.ExceptionInfo[EngineError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert "src/" not in text
    for word in words:
        assert word in text


def test_the_specs_and_outputs_are_those_of_onnx_runtime(graph: Path) -> None:
    engine, other = OpenVinoEngine(graph), OnnxEngine(graph)
    assert isinstance(engine, Engine)
    assert isinstance(engine, PooledEngine)
    assert engine.input == other.input == TensorSpec("images", (1, 3, 48, 64), "float32")
    assert engine.outputs == other.outputs == (TensorSpec("output", (1, 2, 3), "float32"),)
    assert (engine.slots, engine.max_batch) == (1, 1)
    assert engine.backend == openvino.backend_name()
    assert engine.backend.startswith("openvino 2")
    np.testing.assert_array_equal(run(engine, picture(2.0))["output"], run(other, picture(2.0))["output"])


def test_an_open_batch_takes_any_number_of_pictures_one_after_the_other(tmp_path: Path) -> None:
    engine = OpenVinoEngine(brightness_graph(tmp_path / "tiny.onnx", ONES, ONES, batch="n", open_size=True))
    assert engine.input.shape == (None, 3, None, None)
    assert engine.max_batch is None
    for values in ([0, 1, 2], [5], [3, 4]):
        found = run(engine, np.concatenate([picture(value) for value in values]))["output"]
        np.testing.assert_allclose(found[:, 0, 0].astype(np.float32), [value + 1 for value in values])


def test_several_slots_work_at_once_and_each_ticket_keeps_its_outputs_until_its_slot_is_used_again(graph: Path) -> None:
    engine = OpenVinoEngine(graph, slots=3)
    assert engine.slots == 3
    tickets = [engine.submit(picture(value)) for value in (1, 2, 3)]
    outputs = [engine.collect(ticket)["output"] for ticket in reversed(tickets)]
    np.testing.assert_allclose([found.ravel()[0].astype(np.float32) for found in outputs], [4, 3, 2])
    engine.close()


@pytest.mark.parametrize("slots", [1, 2])
def test_no_more_than_the_slots_are_open(graph: Path, slots: int) -> None:
    engine = OpenVinoEngine(graph, slots=slots)
    tickets = [engine.submit(picture(0)) for _ in range(slots)]
    with pytest.raises(EngineError, match=f"all {slots} slots are taken"):
        engine.submit(picture(0))
    engine.collect(tickets[0])
    engine.submit(picture(0))
    engine.close()


def test_tickets_are_collected_once_and_never_after_close(graph: Path) -> None:
    engine = OpenVinoEngine(graph)
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


def test_outputs_outlive_the_engine_they_came_from(graph: Path) -> None:
    engine = OpenVinoEngine(graph)
    found = engine.collect(engine.submit(picture(2)))["output"]
    engine.close()
    del engine
    np.testing.assert_allclose(found.astype(np.float32), 3.0)


def test_views_and_read_only_pictures_are_taken_as_they_are_and_not_written_to(graph: Path) -> None:
    engine = OpenVinoEngine(graph)
    wide = np.repeat(picture(2.0), 2, axis=3)[..., ::2]
    fixed = picture(3.0)
    fixed.flags.writeable = False
    for batch, expected in ((wide, 3.0), (fixed, 4.0)):
        np.testing.assert_allclose(run(engine, batch)["output"].astype(np.float32), expected)
    np.testing.assert_array_equal(fixed, 3.0)


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 3, 48, 65), np.float32), np.zeros((2, 3, 48, 64), np.float32), np.zeros((1, 3, 48, 64))]
)
def test_a_batch_that_does_not_fit_is_refused_before_it_runs(graph: Path, batch: NDArray[np.generic]) -> None:
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(graph).submit(batch)
    assert_one_line(error, "tiny.onnx", "images", "[1, 3, 48, 64] float32", batch.dtype.name)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text\n" * 20, b"\x08\x08\x12\x07pytorch", b"<?xml?><net/>"])
def test_no_other_format_is_tried_on_a_file_that_is_no_onnx(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(path)
    assert_one_line(error, "notes.onnx", "not an ONNX file")
    assert capfd.readouterr() == ("", "")


def test_a_broken_off_file_a_missing_one_and_a_folder_are_each_said_to_be_that(graph: Path, tmp_path: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-200])
    for path, word in ((graph, "tiny.onnx"), (tmp_path / "nothing.onnx", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(EngineError) as error:
            OpenVinoEngine(path)
        assert_one_line(error, word)


@pytest.mark.parametrize("place", ["images", "output"])
def test_a_name_that_is_no_text_is_damage(graph: Path, place: str) -> None:
    content = graph.read_bytes()
    graph.write_bytes(content.replace(place.encode(), b"\xb1" + place.encode()[1:]))
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(graph)
    assert_one_line(error, "tiny.onnx", "damaged")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = brightness_graph(tmp_path / "m.onnx", np.ones((200, 3), np.float32), external=True)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(path)
    assert_one_line(error, "m.onnx", "m.bin")


def test_an_operator_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "new.onnx", [node("Teleport", ["x"], ["y"])], [float_value("x", [1, 3])], [float_value("y", None)]
    )
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(path)
    assert_one_line(error, "new.onnx", "does not know", "Teleport")


def test_two_inputs_are_one_too_many(tmp_path: Path) -> None:
    values = [float_value(name, [1, 3, 4, 4]) for name in ("left", "right")]
    path = save(tmp_path / "two.onnx", [node("Add", ["left", "right"], ["y"])], values, [float_value("y", None)])
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(path)
    assert_one_line(error, "two.onnx", "left, right")


@pytest.mark.parametrize("slots", [1, 2])
def test_a_slot_whose_graph_failed_is_free_again(tmp_path: Path, slots: int, capfd: pytest.CaptureFixture[str]) -> None:
    value = float_value("x", ["n", 3, 4, 4])
    nodes = [node("Constant", [], ["shape"], value_ints=[2, 24]), node("Reshape", ["x", "shape"], ["y"])]
    engine = OpenVinoEngine(save(tmp_path / "odd.onnx", nodes, [value], [float_value("y", None)]), slots=slots)
    for _ in range(slots + 1):
        with pytest.raises(EngineError) as error:
            engine.collect(engine.submit(np.zeros((2, 3, 4, 4), np.float32)))
        assert_one_line(error, "odd.onnx", "failed while running", "reshape")
    engine.collect(engine.submit(np.zeros((1, 3, 4, 4), np.float32)))
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_outputs_have_the_names_and_the_order_of_the_file_whatever_else_openvino_calls_them(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Neg", ["a"], ["c"])]
    values = [float_value(name, None) for name in ("c", "b", "a", "x")]
    path = save(tmp_path / "alias.onnx", nodes, [float_value("x", [1, 4])], values)
    batch = np.array([[-1.0, 2.0, 3.0, -4.0]], np.float32)
    engine = OpenVinoEngine(path)
    assert [spec.name for spec in engine.outputs] == ["c", "b", "a", "x"]
    found, expected = run(engine, batch), run(OnnxEngine(path), batch)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", ["FLOAT16", "UINT8"])
def test_a_graph_that_takes_float16_or_bytes_gets_them(tmp_path: Path, kind: str) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", getattr(TensorProto, kind), [1, 3, 4, 4])
    nodes = [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    engine = OpenVinoEngine(save(tmp_path / "typed.onnx", nodes, [value], [float_value("y", None)]))
    assert engine.input.dtype == kind.lower()
    batch = np.arange(48).reshape(1, 3, 4, 4).astype(kind.lower())
    np.testing.assert_array_equal(run(engine, batch)["y"], batch.astype(np.float32))


def test_a_type_that_numpy_has_not_is_refused_by_name(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [1, 3]) for name in ("x", "y")]
    with pytest.raises(EngineError) as error:
        OpenVinoEngine(save(tmp_path / "b.onnx", [node("Relu", ["x"], ["y"])], values[:1], values[1:]))
    assert_one_line(error, "b.onnx", "x", "bfloat16")


def test_float32_is_float32_also_where_openvino_would_choose_less(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = convolution(tmp_path / "c.onnx", rng)
    batch = rng.random((1, 3, 48, 64), np.float32)
    expected = run(OnnxEngine(path), batch)["y"]
    np.testing.assert_allclose(run(OpenVinoEngine(path), batch)["y"], expected, atol=1e-5)


@needs_bf16
def test_bfloat16_is_another_arithmetic(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = convolution(tmp_path / "c.onnx", rng)
    batch = rng.random((1, 3, 48, 64), np.float32)
    expected = run(OnnxEngine(path), batch)["y"].astype(np.float32)
    found = run(OpenVinoEngine(path, arithmetic="bf16"), batch)["y"].astype(np.float32)
    assert 1e-5 < np.abs(found - expected).max() < 0.05


def convolution(path: Path, rng: np.random.Generator) -> Path:
    from onnx import numpy_helper

    weights = numpy_helper.from_array(rng.standard_normal((16, 3, 3, 3), np.float32) / 5, "w")
    return save(
        path,
        [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])],
        [float_value("x", [1, 3, 48, 64])],
        [float_value("y", None)],
        [weights],
    )


@pytest.mark.parametrize("model", ["yolox_nano_416", "nanodet_m_320", "ultraface_rfb_320", "yunet_n_dynamic"])
def test_a_real_network_gives_the_numbers_of_onnx_runtime_without_a_word(
    material: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = material / "models" / f"{model}.onnx"
    engine, other = OpenVinoEngine(path, slots=2), OnnxEngine(path)
    assert engine.input == other.input
    assert [spec.name for spec in engine.outputs] == [spec.name for spec in other.outputs]
    shape = tuple(side or given for side, given in zip(engine.input.shape, (1, 3, 96, 128), strict=True))
    batch = np.random.default_rng(0).integers(0, 255, shape).astype(np.float32)
    found, expected = run(engine, batch), run(other, batch)
    for name, array in expected.items():
        scale = max(1.0, float(np.abs(array.astype(np.float64)).max()))
        np.testing.assert_allclose(found[name], array, atol=2e-4 * scale)
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_memory_goes_back_when_an_engine_is_closed(material: Path) -> None:
    import psutil

    def cycle() -> int:
        engine = OpenVinoEngine(material / "models" / "nanodet_m_320.onnx", threads=1)
        engine.collect(engine.submit(np.zeros((1, 3, 320, 320), np.float32)))
        engine.close()
        return int(psutil.Process().memory_info().rss)

    first = [cycle() for _ in range(3)]
    assert max(cycle() for _ in range(5)) - max(first) < 15 << 20


def test_the_processors_flags_say_whether_it_has_bfloat16(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for flags, has in (("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx2 avx512f", False), ("", False)):
        file.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: spectre\n")
        assert openvino.computes_bf16(file) is has
    assert not openvino.computes_bf16(tmp_path / "nothing")


def test_a_service_that_may_not_run_what_it_writes_is_told_of_the_drop_in(graph: Path) -> None:
    script = (
        "import ctypes, sys\n"
        "from agent.engines.openvino import OpenVinoEngine\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit('systemd/drop-ins/openvino.conf: no such prctl here')\n"
        "OpenVinoEngine(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(graph)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "systemd/drop-ins/openvino.conf" in done.stderr.splitlines()[-1]


def test_without_openvino_the_error_says_how_to_get_it(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"OpenVINO cannot be loaded .*pip install 'edgewarden\[openvino\]'"):
        OpenVinoEngine(graph)


def test_an_engine_spreads_over_more_workers_and_back_between_two_batches(graph: Path) -> None:
    engine = OpenVinoEngine(graph, threads=1)
    told: list[bool] = []
    engine.when_done(lambda: told.append(True))
    for workers, ahead in ((2, 1), (1, 0), (3, 0)):
        engine.spread(workers, ahead)
        assert (engine.workers, engine.slots) == (workers, workers + ahead)
        tickets = [engine.submit(picture(value)) for value in range(engine.slots)]
        with pytest.raises(EngineError, match="under way"):
            engine.spread(1)
        found = [engine.collect(ticket)["output"].ravel()[0].astype(np.float32) for ticket in tickets]
        np.testing.assert_allclose(found, np.arange(engine.slots) + 1)
        assert all(engine.done(ticket) for ticket in tickets)
    engine.close()
    assert len(told) == 6, "not of what the calling thread did"


def test_an_int8_graph_with_quantizers_gives_what_onnx_runtime_makes_of_it(tmp_path: Path) -> None:
    from onnx import numpy_helper

    rng = np.random.default_rng(2)
    weights = rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    constants = {
        "scale": np.float32(1 / 127),
        "zero": np.int8(0),
        "w": weights,
        "w_scale": rng.uniform(0.001, 0.003, 8).astype(np.float32),
        "w_zero": np.zeros(8, np.int8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    path = save(
        tmp_path / "q.onnx",
        nodes,
        [float_value("x", [1, 3, 48, 64])],
        [float_value("y", None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    batch = rng.uniform(-1, 1, (1, 3, 48, 64)).astype(np.float32)
    expected = run(OnnxEngine(path), batch)["y"]
    np.testing.assert_allclose(
        run(OpenVinoEngine(path), batch)["y"], expected, atol=0.02 * float(np.abs(expected).max())
    )
