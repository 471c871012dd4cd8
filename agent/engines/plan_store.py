"""Plans on disk: each with a sealed sidecar that says what it is, looked at before a byte of the plan is used.

A plan is native code. One that this store did not write, that was changed since, or that is meant for anything else
is refused, with the reason. Building a better one is the callers' business (``plan_supply.py``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from agent.engines.build_request import Wish
from agent.engines.disk import sync
from agent.engines.identity import PlanIdentity, differences
from agent.engines.plan_header import HEADER_BYTES, header_fault
from agent.engines.plan_trust import folder_fault, read_own
from agent.engines.store import cache_dir
from agent.errors import EngineError

log = logging.getLogger(__name__)

State = Literal["ready", "missing", "stale", "damaged", "refused"]
KEY_FILE = ".seal"
KEY_BYTES = 32
LOCK_POLL = 0.1
LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SIDECAR_LIMIT = 1 << 16


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the store knows of a plan. ``wish``: what was asked for beyond the model. ``built_at``: UNIX seconds, to be
    told; ``seconds``: how long it took."""

    slot: str
    model: str
    identity: PlanIdentity
    wish: Wish
    file: str
    bytes: int
    sha256: str
    built_at: float
    seconds: float


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record, and the store's seal over it: HMAC-SHA256 with a key that lies in the store."""

    record: Record
    seal: str


class Order(NamedTuple):
    """A plan that is wanted: in which slot, of which model and graph, of which identity, and what was asked for."""

    slot: str
    model: str
    onnx: Path
    identity: PlanIdentity
    wish: Wish = Wish()


class Found(NamedTuple):
    """What a slot holds, measured by what is wanted: ``reason`` is empty for ``ready`` alone."""

    state: State
    reason: str
    record: Record | None


class Plan(NamedTuple):
    """A plan that may be deserialized: its bytes, as they were hashed, and what they are."""

    content: bytes
    record: Record


class PlanRefusedError(EngineError):
    """There is no plan that may be used. ``state`` says of which kind the reason is."""

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state = state


class PlanStore:
    """The plans of this user on this machine, a slot each: the package's and the precision's name, and for what GPU.

    ``folder``: by default ``plans`` in the cache folder; made when first written to, for this user alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir() / "plans"

    def look(self, slot: str, wanted: PlanIdentity) -> Found:
        """What is in the slot, without hashing the plan: for lists. ``read`` decides."""
        try:
            record = self._record(slot, wanted)
            with (self.folder / record.file).open("rb") as file:
                self._check_header(slot, record, file.read(HEADER_BYTES), (self.folder / record.file).stat().st_size)
        except PlanRefusedError as error:
            return Found(error.state, str(error), self._readable(slot))
        except OSError as error:
            return Found("damaged", f"{slot}: its plan cannot be read: {error.strerror}", self._readable(slot))
        return Found("ready", "", record)

    def read(self, slot: str, wanted: PlanIdentity) -> Plan:
        """The plan of that identity, every byte of it checked. Raises PlanRefusedError."""
        record = self._record(slot, wanted)
        path = self.folder / record.file
        try:
            content = read_own(path)
        except OSError as error:
            raise PlanRefusedError(f"{path}: cannot be read: {error.strerror}", "damaged") from None
        except EngineError as error:
            raise PlanRefusedError(str(error), "refused") from None
        self._check_header(slot, record, content, len(content))
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise PlanRefusedError(f"{path}: not the bytes that were built: it was changed or damaged since", "damaged")
        return Plan(content, record)

    def record(self, slot: str) -> Record | None:
        """What the slot's sidecar says, whatever it is for; None where there is none that is believed."""
        return self._readable(slot)

    def records(self) -> list[Record]:
        """Every plan that the store wrote, whatever it is for."""
        names = sorted(path.stem for path in self.folder.glob("*.json")) if self.folder.is_dir() else []
        return [record for name in names if (record := self._readable(name)) is not None]

    def put(self, order: Order, part: Path, seconds: float) -> Record:
        """Take ``part``, a file made by ``part_file``, as the slot's plan from now on, in one step. Hold the lock.

        Raises EngineError where the disk does not take it; the plan that was there before stays.
        """
        try:
            content = part.read_bytes()
            slot, identity = order.slot, order.identity
            if fault := header_fault(content, identity.backend):
                raise EngineError(f"{slot}: what was built cannot be used: {fault}")
            digest = hashlib.sha256(content).hexdigest()
            record = Record(
                slot=slot,
                model=order.model,
                identity=identity,
                wish=order.wish,
                file=f"{slot}-{digest[:12]}.plan",
                bytes=len(content),
                sha256=digest,
                built_at=time.time(),
                seconds=round(seconds, 3),
            )
            sidecar = msgspec.json.encode(Sidecar(record=record, seal=self._seal(record, make_key=True)))
            _into_place(part, self.folder / record.file)
            with self.part_file(slot) as half:
                half.write_bytes(sidecar)
                _into_place(half, self.folder / f"{slot}.json")
        except OSError as error:
            raise EngineError(f"{self.folder}: the plan cannot be written: {error.strerror}; {_room(error)}") from None
        self._drop_others(slot, record.file)
        return record

    def forget(self, folder: Path) -> None:
        """Remove the plans of the package that was in ``folder``; one that cannot be removed only takes room."""
        place = _place(folder)
        for pattern in (f"*-{place}.json", f"*-{place}-{'[0-9a-f]' * 12}.plan"):
            for path in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    @contextlib.contextmanager
    def part_file(self, slot: str) -> Iterator[Path]:
        """A new file in the store to write a plan to; gone at the end, unless ``put`` has taken it."""
        handle, name = tempfile.mkstemp(prefix=f".{slot}.", suffix=".part", dir=self.folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def building(self, slot: str, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold the slot's lock, waiting for another builder of it, which may be another process.

        What a killed builder left behind is removed. Raises EngineError where the store cannot be written or believed,
        and when ``stop()`` says so while it waits.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{self.folder}: cannot be made: {error.strerror}; set EDGEWARDEN_CACHE") from None
        if fault := folder_fault(self.folder):
            raise PlanRefusedError(fault, "refused")
        try:
            handle = os.open(
                self.folder / f".{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise EngineError(f"{self.folder}: cannot be written: {error.strerror}; set EDGEWARDEN_CACHE") from None
        try:
            _lock(handle, slot, stop)
            for left in self.folder.glob(f".{slot}.*.part"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    def _record(self, slot: str, wanted: PlanIdentity) -> Record:
        """The sidecar's word, believed, sealed, and of the identity that is wanted. Raises PlanRefusedError."""
        if not self.folder.exists():
            raise PlanRefusedError(f"{slot}: not built yet", "missing")
        if fault := folder_fault(self.folder):
            raise PlanRefusedError(fault, "refused")
        record = self._sealed(slot)
        different = differences(record.identity, wanted)
        if different:
            raise PlanRefusedError(f"{slot}: {'; '.join(different)}", "stale")
        return record

    def _sealed(self, slot: str) -> Record:
        path = self.folder / f"{slot}.json"
        try:
            text = read_own(path)
        except FileNotFoundError:
            raise self._without_sidecar(slot) from None
        except OSError as error:
            raise PlanRefusedError(f"{path}: cannot be read: {error.strerror}", "damaged") from None
        except EngineError as error:
            raise PlanRefusedError(str(error), "refused") from None
        try:
            sidecar = msgspec.json.decode(text[:SIDECAR_LIMIT], type=Sidecar)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PlanRefusedError(f"{path}: damaged ({error})", "damaged") from None
        # Byte for byte: what decodes to the same but is written otherwise was not written here.
        if msgspec.json.encode(sidecar) != text or sidecar.record.slot != slot:
            raise PlanRefusedError(f"{path}: damaged", "damaged")
        if not hmac.compare_digest(sidecar.seal.encode("utf-8", "replace"), self._seal(sidecar.record).encode()):
            raise PlanRefusedError(f"{path}: not sealed by this store, so its plan is not trusted", "refused")
        return sidecar.record

    def _without_sidecar(self, slot: str) -> PlanRefusedError:
        strange = sorted(path.name for path in self.folder.glob(f"{slot}*.plan"))
        if strange:
            return PlanRefusedError(f"{strange[0]}: not written by this store, so it is not trusted", "refused")
        return PlanRefusedError(f"{slot}: not built yet", "missing")

    def _check_header(self, slot: str, record: Record, start: bytes, size: int) -> None:
        if size != record.bytes:
            raise PlanRefusedError(f"{slot}: its plan has {size} bytes, {record.bytes} were written", "damaged")
        if fault := header_fault(start, record.identity.backend):
            raise PlanRefusedError(f"{slot}: {fault}", "damaged")

    def _readable(self, slot: str) -> Record | None:
        """What the sidecar says, to be shown; the plan is not used."""
        try:
            return self._sealed(slot)
        except PlanRefusedError:
            return None

    def _seal(self, record: Record, *, make_key: bool = False) -> str:
        return hmac.new(self._key(make_key), msgspec.json.encode(record), hashlib.sha256).hexdigest()

    def _key(self, make: bool) -> bytes:
        """The key of the seal. Without one nothing was sealed: a new one fits no old seal."""
        path = self.folder / KEY_FILE
        try:
            key = read_own(path)
        except (OSError, EngineError):
            key = b""
        if len(key) == KEY_BYTES:
            return key
        if not make:
            return secrets.token_bytes(KEY_BYTES)
        return self._new_key(path)

    def _new_key(self, path: Path) -> bytes:
        """Two first builders agree on one: whoever links it first."""
        key = secrets.token_bytes(KEY_BYTES)
        with self.part_file("seal") as part:
            part.write_bytes(key)
            sync(part)
            if path.exists():
                path.unlink()  # of the wrong length, or not ours
            try:
                os.link(part, path)
            except FileExistsError:
                key = read_own(path)
        return key

    def _drop_others(self, slot: str, keep: str) -> None:
        """Plans that the slot had before; one that cannot be removed only takes room."""
        for path in self.folder.glob(f"{slot}-{'[0-9a-f]' * 12}.plan"):
            if path.name != keep:
                with contextlib.suppress(OSError):
                    path.unlink()


def slot_name(model: str, precision: str, target: str | None, folder: Path) -> str:
    """A name for a plan's files. ``target``: ``sm86`` for a GPU that is not this machine's, else None.

    ``folder``: the package's; packages of the same name elsewhere have slots of their own.
    """
    return f"{model}-{precision}-{target or 'here'}-{_place(folder)}"


def _place(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]


def _lock(handle: int, slot: str, stop: Callable[[], bool]) -> None:
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                log.info("%s: another process is building it; waiting for that", slot)
                told = True
            if stop():
                raise EngineError(f"{slot}: given up while another process is building it") from None
            time.sleep(LOCK_POLL)


def _into_place(part: Path, target: Path) -> None:
    """The file has its name only when all of it is on the disk."""
    part.chmod(0o600)
    sync(part)
    part.replace(target)
    sync(target.parent)


def _room(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or set EDGEWARDEN_CACHE to a folder on another disk"
    return "set EDGEWARDEN_CACHE to a folder that this user may write"
