"""The store on real plans: what was built is found again, and nothing else is ever handed out."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trt_plans import copying, identity_for, order_for, plan_bytes, request_for, variant
from waiting import wait_until

from agent.engines import build_room
from agent.engines.identity import PlanIdentity, differences
from agent.engines.plan_header import HEADER_BYTES, header_fault, read_header
from agent.engines.plan_store import KEY_FILE, Order, Plan, PlanRefusedError, PlanStore
from agent.engines.plan_supply import supply
from agent.engines.store import Identity, Speed, SpeedStore
from agent.errors import EngineError

PLENTY = 64 << 30


@pytest.fixture
def order(material: Path) -> Order:
    """Of a real plan, in fp32 for SM86."""
    plan_bytes(material, "nanodet_m_320", "fp32")  # skips where it cannot be built
    return order_for(request_for(variant(material, "nanodet_m_320", "fp32"), "fp32"))


@pytest.fixture
def content(material: Path) -> bytes:
    """The plan's bytes."""
    return plan_bytes(material, "nanodet_m_320", "fp32")


@pytest.fixture
def store(tmp_path: Path, order: Order, content: bytes) -> PlanStore:
    """A store that holds the plan."""
    made = PlanStore(tmp_path / "plans")
    obtain(made, order, content)
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def obtain(store: PlanStore, order: Order, content: bytes, **more: Any) -> Plan:
    return supply(store, order, copying(content), memory=lambda: PLENTY, **more)


def only(folder: Path, ending: str) -> Path:
    (found,) = folder.glob(f"*{ending}")
    return found


def refused(store: PlanStore, order: Order) -> PlanRefusedError:
    with pytest.raises(PlanRefusedError) as error:
        supply(store, order, None)
    assert "\n" not in str(error.value)
    return error.value


def changed(order: Order, **fields: Any) -> Order:
    return order._replace(identity=msgspec.structs.replace(order.identity, **fields))


def test_a_plan_that_was_built_is_found_again_and_not_built_twice(
    store: PlanStore, order: Order, content: bytes
) -> None:
    plan = supply(store, order, None)
    assert plan.content == content
    assert plan.record.identity == order.identity
    assert store.look(order.slot, order.identity).state == "ready"
    assert [record.slot for record in store.records()] == [order.slot]


def test_the_store_is_its_users_alone(store: PlanStore) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in [store.folder, *store.folder.iterdir()]}
    assert set(modes.values()) <= {0o700, 0o600}, modes


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"onnx": "0" * 64}, "of another ONNX file"),
        ({"backend": "tensorrt-rtx 1.8.0.1"}, r"built by tensorrt-rtx 1\.7\.\S+, here is tensorrt-rtx 1\.8\.0\.1"),
        ({"gpu": "Orin"}, "built on nothing, here is Orin"),
        ({"capability": "8.7"}, r"built for compute capability 8\.6, here is 8\.7"),
        ({"system": "linux aarch64"}, "built on linux x86_64, here is linux aarch64"),
        ({"calibration": "1" * 64}, "calibrated with other pictures"),
        ({"shapes": "input.1 1x3x640x640"}, r"built for input\.1 .*, wanted is input\.1 1x3x640x640"),
        ({"options": "sparse"}, "built with default options, wanted is sparse"),
        ({"schema": 2}, "of store format 1, here is 2"),
    ],
)
def test_any_difference_of_identity_makes_a_plan_stale_and_is_told(
    store: PlanStore, order: Order, fields: dict[str, Any], reason: str
) -> None:
    error = refused(store, changed(order, **fields))
    assert error.state == "stale"
    assert re.search(reason, str(error)), str(error)
    assert "building is off" in str(error)
    assert store.look(order.slot, changed(order, **fields).identity).state == "stale"


def test_every_field_of_the_identity_is_compared() -> None:
    names = PlanIdentity.__struct_fields__
    values: dict[str, Any] = {name: 1 if name == "schema" else "a" for name in names}
    one = PlanIdentity(**values)
    for name in names:
        other = msgspec.structs.replace(one, **{name: 2 if name == "schema" else "b"})
        assert len(differences(one, other)) == 1, name
    assert differences(one, one) == []


def test_a_stale_plan_is_rebuilt_in_place(store: PlanStore, order: Order, material: Path) -> None:
    other = plan_bytes(material, "nanodet_m_320", "fp32", (8, 9))
    after = changed(order, capability="8.9")
    assert obtain(store, after, other).content == other
    assert supply(store, after, None).content == other
    assert only(store.folder, ".plan").read_bytes() == other, "the old one takes no room"


def test_every_byte_of_the_sidecar_counts(store: PlanStore, order: Order) -> None:
    sidecar = only(store.folder, ".json")
    text = sidecar.read_bytes()
    for place in range(len(text)):
        sidecar.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        assert refused(store, order).state in ("damaged", "refused", "stale"), place
    for wrong in (b"", text[:-1], text + b" ", text.replace(b'{"record"', b'{ "record"'), b"[]", bytes(9)):
        sidecar.write_bytes(wrong)
        assert refused(store, order).state == "damaged"
    sidecar.write_bytes(text)
    assert supply(store, order, None)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_sidecar_is_refused_and_never_more(
    store: PlanStore, order: Order, data: st.DataObject
) -> None:
    sidecar = store.folder / f"{order.slot}.json"
    text = sidecar.read_bytes()
    try:
        start = data.draw(st.integers(0, len(text)))
        cut, put = (
            data.draw(st.integers(0, 40)),
            data.draw(st.binary(max_size=40) | st.text(max_size=9).map(str.encode)),
        )
        changed = text[:start] + put + text[start + cut :]
        sidecar.write_bytes(changed)
        if changed != text:
            refused(store, order)
            assert store.look(order.slot, order.identity).state != "ready"
    finally:
        sidecar.write_bytes(text)


@given(st.binary(max_size=99))
def test_a_damaged_speed_is_no_speed(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    speeds = SpeedStore(tmp_path_factory.getbasetemp())
    identity = Identity(onnx="a", backend="b", device="c", options="d")
    speeds.put(Speed(identity=identity, seconds=1.0, speedup=2.0, rates={1: 3.0, 4: 5.0}))
    found = speeds.get(identity)
    assert found is not None
    assert found.rates == {1: 3.0, 4: 5.0}
    (speeds.folder / f"{identity.key}.json").write_bytes(content)
    assert speeds.get(identity) is None


def test_a_seal_in_letters_of_any_script_is_refused(store: PlanStore, order: Order) -> None:
    sidecar = only(store.folder, ".json")
    whole = msgspec.json.decode(sidecar.read_bytes())
    for seal in ("é" * 64, "", "\ud7ff", "0" * 63):
        sidecar.write_bytes(msgspec.json.encode({**whole, "seal": seal}))
        assert refused(store, order).state == "refused"


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader_of_headers(start: bytes) -> None:
    assert header_fault(start, "tensorrt 10.3.0") or start[:4] == b"ftrt"
    assert header_fault(b"vtrt" + start, "tensorrt-rtx 1.7.1.116") or start[20:24] == bytes([1, 7, 1, 116])


@pytest.mark.parametrize(
    ("model", "precision", "target"),
    [("nanodet_m_320", "fp32", (8, 6)), ("yolox_nano_416", "int8", (8, 9)), ("nanodet_m_320", "fp16", (8, 9))],
)
def test_every_region_of_the_plan_counts(
    tmp_path: Path, material: Path, model: str, precision: str, target: tuple[int, int]
) -> None:
    content = plan_bytes(material, model, precision, target)
    order = order_for(request_for(variant(material, model, precision), precision, target))
    store = PlanStore(tmp_path / "plans")
    obtain(store, order, content)
    path = only(store.folder, ".plan")
    places = [*range(128), *range(0, len(content), len(content) // 61), *range(len(content) - 64, len(content))]
    for place in places:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))
        assert refused(store, order).state == "damaged", place
        with path.open("r+b") as file:
            file.seek(place)
            file.write(content[place : place + 1])
    for wrong in (b"", content[:20], content[: len(content) // 2], content[:-1], content + b"\0"):
        path.write_bytes(wrong)
        assert refused(store, order).state == "damaged"
        assert store.look(order.slot, order.identity).state == "damaged"
    path.unlink()
    assert refused(store, order).state == "damaged"


def test_what_is_damaged_is_rebuilt_in_place_unless_building_is_off(
    store: PlanStore, order: Order, content: bytes
) -> None:
    path = only(store.folder, ".plan")
    path.write_bytes(random.Random(1).randbytes(len(content)))
    assert refused(store, order).state == "damaged"
    assert obtain(store, order, content).content == content
    assert supply(store, order, None).content == content


def test_a_plan_that_the_store_did_not_write_is_refused(tmp_path: Path, order: Order, content: bytes) -> None:
    folder = tmp_path / "plans"
    folder.mkdir(mode=0o700)
    (folder / f"{order.slot}-0123456789ab.plan").write_bytes(content)
    error = refused(PlanStore(folder), order)
    assert error.state == "refused"
    assert "not written by this store" in str(error)


def test_a_whole_and_matching_pair_from_another_store_is_refused(
    store: PlanStore, order: Order, tmp_path: Path
) -> None:
    stranger = tmp_path / "elsewhere"
    stranger.mkdir(mode=0o700)
    for path in store.folder.glob("[!.]*"):
        shutil.copy2(path, stranger)
    assert "not sealed by this store" in str(refused(PlanStore(stranger), order))
    (stranger / KEY_FILE).write_bytes(bytes(32))
    (stranger / KEY_FILE).chmod(0o600)
    assert refused(PlanStore(stranger), order).state == "refused"


def test_a_sidecar_moved_to_another_slot_is_refused(store: PlanStore, order: Order) -> None:
    only(store.folder, ".json").rename(store.folder / "another.json")
    assert refused(store, order._replace(slot="another")).state == "damaged"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_store_that_others_may_write_is_refused_also_for_building(
    store: PlanStore, order: Order, content: bytes, mode: int
) -> None:
    store.folder.chmod(mode)
    error = refused(store, order)
    assert error.state == "refused"
    assert "others may write there, and a plan is native code" in str(error)
    assert "chmod go-w" in str(error)
    with pytest.raises(PlanRefusedError, match="others may write there"):
        obtain(store, order, content)
    store.folder.chmod(0o700)
    assert supply(store, order, None)


def test_a_parent_that_others_may_write_is_refused_but_a_sticky_one_is_not(
    store: PlanStore, order: Order, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    assert "exchange the plans" in str(refused(store, order))
    tmp_path.chmod(0o1777)
    assert supply(store, order, None)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("ending", [".plan", ".json"])
def test_a_file_that_others_may_write_and_a_link_are_refused(
    store: PlanStore, order: Order, tmp_path: Path, ending: str
) -> None:
    path = only(store.folder, ending)
    path.chmod(0o666)
    assert refused(store, order).state == "refused"
    path.chmod(0o600)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert refused(store, order).state in ("refused", "damaged")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_store_of_somebody_else_is_refused(store: PlanStore, order: Order) -> None:
    os.chown(store.folder, 12345, -1)
    assert "belongs to user 12345" in str(refused(store, order))
    os.chown(store.folder, 0, -1)
    os.chown(only(store.folder, ".plan"), 12345, -1)
    assert refused(store, order).state == "refused"


def test_the_header_names_library_and_version_and_a_wrong_one_is_refused(content: bytes) -> None:
    backend = read_header(content).backend
    assert header_fault(content[:HEADER_BYTES], backend) == ""
    assert header_fault(content, backend.rpartition(".")[0]) == "", "three numbers where the library tells three"
    assert "here is tensorrt 10.3.0" in header_fault(content, "tensorrt 10.3.0")
    assert "its header says tensorrt 8.6.1.6" in header_fault(
        b"ftrt" + content[4:24] + bytes([8, 6, 1, 6]) + content[28:], backend
    )
    assert "not a TensorRT plan" in header_fault(b"PK\3\4" + content[4:], backend)
    assert "not a TensorRT plan" in header_fault(content[:27], backend)


def test_what_a_builder_made_is_looked_at_before_it_is_kept(store: PlanStore, order: Order, content: bytes) -> None:
    with pytest.raises(EngineError, match=r"what was built cannot be used: its header says"):
        obtain(store, changed(order, backend="tensorrt-rtx 1.6.0.0"), content)
    with pytest.raises(EngineError, match="not a TensorRT plan"):
        obtain(store, order, b"", rebuild=True)
    assert supply(store, order, None).content == content, "what was there stays"


def test_a_failed_build_leaves_what_was_there(store: PlanStore, order: Order, content: bytes) -> None:
    def fail(part: Path) -> None:
        part.write_bytes(b"half")
        raise EngineError("the builder was killed")

    with pytest.raises(EngineError, match="was killed"):
        supply(store, order, fail, rebuild=True, memory=lambda: PLENTY)
    assert supply(store, order, None).content == content
    assert not list(store.folder.glob("*.part"))
    assert not list(store.folder.glob(".*.part"))


def test_a_graph_that_changes_while_it_is_built_gives_no_plan(tmp_path: Path, order: Order, content: bytes) -> None:
    graph = Path(shutil.copy(order.onnx, tmp_path / "model.onnx"))
    mine = order._replace(onnx=graph)

    def build(part: Path) -> None:
        part.write_bytes(content)
        with graph.open("ab") as file:
            file.write(b"\x10\x00")

    with pytest.raises(EngineError, match="changed while its plan was being built"):
        supply(PlanStore(tmp_path / "plans"), mine, build, memory=lambda: PLENTY)
    assert refused(PlanStore(tmp_path / "plans"), mine).state == "missing"


def test_too_little_memory_or_disk_is_told_before_the_minutes_are_spent(tmp_path: Path, order: Order) -> None:
    def never(_part: Path) -> None:
        raise AssertionError("nothing is built")

    with pytest.raises(EngineError, match=r"needs about \d+ MB of memory, 100 MB are free; stop what else runs"):
        supply(PlanStore(tmp_path / "plans"), order, never, memory=lambda: 100 << 20)


def test_a_full_disk_is_told_before_and_during_a_build_and_loses_nothing(
    small_disk: Path, order: Order, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PlanStore(small_disk / "plans")
    with pytest.raises(EngineError, match=r"needs about \d+ MB in .*, \d+ MB are free; make room"):
        obtain(store, order, content)
    monkeypatch.setattr(build_room, "BASE_DISK", 0)
    monkeypatch.setattr(build_room, "DISK_PER_BYTE", 0)
    obtain(store, order, content)
    (small_disk / "ballast").write_bytes(bytes(2 << 20))
    with pytest.raises((EngineError, OSError), match="No space left"):
        obtain(store, order, content, rebuild=True)
    assert supply(store, order, None).content == content, "the plan that was there stays"
    assert not list(store.folder.glob(".*.part"))


def test_the_builder_itself_tells_of_a_full_disk(small_disk: Path, material: Path) -> None:
    from agent.engines.build_process import run_build

    (small_disk / "ballast").write_bytes(bytes(10 << 20))
    request = request_for(variant(material, "nanodet_m_320", "fp32"), "fp32")
    with pytest.raises(EngineError, match="cannot be written: No space left on device; make room"):
        run_build(request, small_disk / "plan")


def test_two_builders_at_once_build_once(tmp_path: Path, order: Order, content: bytes) -> None:
    built, go = [], threading.Event()

    def build(part: Path) -> None:
        built.append(part)
        go.wait(10)
        part.write_bytes(content)

    plans: list[Plan] = []

    def work() -> None:
        plans.append(supply(PlanStore(tmp_path / "plans"), order, build, memory=lambda: PLENTY))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: built)
    go.set()
    for thread in threads:
        thread.join(20)
    assert len(built) == 1
    assert [plan.content for plan in plans] == [content] * 4


SUPPLY = """
import sys
sys.path[:0] = {path!r}
import msgspec
from pathlib import Path
from agent.engines.build_process import run_build
from agent.engines.build_request import BuildRequest
from agent.engines.plan_store import Order, PlanStore
from agent.engines.plan_supply import supply
from agent.engines.identity import PlanIdentity
words = tuple[str, str, str, PlanIdentity, BuildRequest]
slot, model, onnx, identity, request = msgspec.json.decode(sys.stdin.read(), type=words)
built = []
def build(part):
    built.append(1)
    run_build(request, part)
plan = supply(PlanStore(Path(sys.argv[1])), Order(slot, model, Path(onnx), identity), build)
print(len(built), plan.record.sha256)
"""


def builder_process(folder: Path, material: Path) -> subprocess.Popen[str]:
    """A process of its own that obtains the plan with the real builder."""
    request = request_for(variant(material, "nanodet_m_320", "fp32"), "fp32")
    order = order_for(request)
    words = [order.slot, order.model, str(order.onnx), identity_for(request), request]
    code = SUPPLY.format(path=[str(Path(__file__).resolve().parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(words).decode())
    process.stdin.close()
    return process


def test_two_processes_at_once_build_once_with_the_real_builder(tmp_path: Path, material: Path, order: Order) -> None:
    processes = [builder_process(tmp_path / "plans", material) for _ in range(2)]
    told = [process.stdout.read().split() for process in processes if process.stdout is not None]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert sorted(int(count) for count, _ in told) == [0, 1]
    assert len({digest for _, digest in told}) == 1
    assert supply(PlanStore(tmp_path / "plans"), order, None)


def test_kill_9_in_the_middle_of_a_build_leaves_a_store_that_goes_on(
    tmp_path: Path, material: Path, order: Order, content: bytes
) -> None:
    folder = tmp_path / "plans"
    store = PlanStore(folder)
    for _ in range(2):
        process = builder_process(folder, material)
        wait_until(lambda: list(folder.glob(".*.part")) and _builders(folder), 60)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        wait_until(lambda: not _builders(folder), 10, "the builder dies with its agent")
        assert refused(store, order).state == "missing"
        assert list(folder.glob(".*.part")), "a killed process cleans nothing up"
    assert obtain(store, order, content).content == content
    assert not list(folder.glob(".*.part")), "the next builder does"


def _builders(folder: Path) -> list[str]:
    """Real builders at work for this store, whoever started them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"agent.engines.build_child" in words and str(folder).encode() in words:
            found.append(path.parent.name)
    return found
