"""A model package from elsewhere: a folder, a tar or an https address, brought into a folder of ours and verified.

What comes out is a whole package that its hashes and, where keys are given, a signature vouch for; nothing of it is
run. How it becomes the one in use is versions.py's and precision/install.py's.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from agent.detection.archive import Bounds, unpack
from agent.detection.manifest import parse
from agent.detection.model import MANIFEST, ModelPackage, load_package, sha256_of
from agent.detection.signature import PublicKey, read_signature, verify
from agent.engines.disk import sync
from agent.errors import MissingModelError, ModelError
from agent.secrecy import redacted

SUFFIX = ".minisig"
BOUNDS = Bounds()
PATIENCE = 30.0
BLOCK = 1 << 20
LARGEST_TEXT = 1 << 20

Tell = Callable[[str, int, int | None], object]
"""Hears what is being done, how many bytes of it, and of how many, None where nobody knows."""


class Order(NamedTuple):
    """What is to be delivered. ``sha256``: of a tar, wherever it comes from; ``signature``: path or address, by default
    that of the tar with .minisig; ``keys``: where there are any, one of them must have signed it."""

    source: str
    sha256: str | None = None
    signature: str | None = None
    keys: tuple[PublicKey, ...] = ()


class Delivered(NamedTuple):
    """``signed``: the trusted comment of the signature, None where none was asked for."""

    package: ModelPackage
    signed: str | None


def untold(_what: str, _done: int, _total: int | None) -> None:
    """Tells nobody."""


def deliver(order: Order, folder: Path, tell: Tell = untold) -> Delivered:
    """Bring the package into ``folder``, which is empty, as ``folder/package``, with every file on the disk.

    Raises MissingModelError where there is nothing, ModelError where it is not what it should be, OSError where nothing
    can be written.
    """
    _check_order(order)
    source = Path(order.source).expanduser()
    signed = None
    if not is_address(order.source) and source.is_dir():
        root = source
    else:
        archive = _archive(order, source, folder, tell)
        _check_hash(archive, order)
        signed = _signed_archive(order, archive, folder)
        unpack(archive, folder / "unpacked", BOUNDS, _counted("unpacking", tell))
        root = folder / "unpacked"
    target = folder / "package"
    target.mkdir(mode=0o755)
    _take_file(root / MANIFEST, target / MANIFEST, LARGEST_TEXT, int)
    if order.keys and signed is None:
        signed = _signed_manifest(order, root, target)
    _take_files(root, target, tell)
    try:
        return Delivered(load_package(target), signed)
    except ModelError as error:
        raise ModelError(str(error).replace(str(target), _shown(order.source))) from None


def is_address(source: str) -> bool:
    """Whether it is one, and no path."""
    return "://" in source


def _check_order(order: Order) -> None:
    """Before anything is fetched. Raises ModelError."""
    if is_address(order.source) and not (order.sha256 or order.keys):
        raise ModelError(
            f"{_shown(order.source)}: give its --sha256, or a key that must have signed it (--key, or [model] keys)"
        )
    if order.sha256 and not is_address(order.source) and Path(order.source).expanduser().is_dir():
        raise ModelError(f"{order.source}: a folder has no --sha256; its {MANIFEST} names the hash of each file")


def _archive(order: Order, source: Path, folder: Path, tell: Tell) -> Path:
    """The tar, with the name that it had."""
    if is_address(order.source):
        name = Path(urlsplit(order.source).path).name or "package"
        return _fetch(order.source, folder / name[-100:], BOUNDS.bytes, tell)
    if not source.is_file():
        raise MissingModelError(f"{order.source}: no such file or folder; a package is a folder, a tar or an address")
    copy = folder / source.name  # so that what is verified is what is unpacked, whoever else may write to the source
    _take_file(source.resolve(), copy, BOUNDS.bytes, _counted(f"reading {source.name}", tell))
    return copy


def _check_hash(archive: Path, order: Order) -> None:
    if order.sha256 and (found := sha256_of(archive)) != order.sha256.lower():
        raise ModelError(f"{_shown(order.source)}: has sha256 {found}, not {order.sha256}; damaged, or another file")


def _signed_archive(order: Order, archive: Path, folder: Path) -> str | None:
    """The comment of the signature beside the tar; None where there is none, or nobody asks. Raises ModelError."""
    if not order.keys:
        return None
    place = order.signature or _beside(order.source)
    try:
        text = _signature_text(place, folder)
    except MissingModelError:
        if order.signature:
            raise
        return None
    return verify(archive, read_signature(text, _shown(place)), order.keys, _shown(order.source))


def _signed_manifest(order: Order, root: Path, target: Path) -> str:
    """By a signature of model.toml within the package, which names the hash of every other file. Raises ModelError."""
    signature = root / f"{MANIFEST}{SUFFIX}"
    try:
        _take_file(signature, target / signature.name, LARGEST_TEXT, int)
    except MissingModelError:
        ways = f"minisign -S -m FILE.tar.gz, or minisign -S -m {MANIFEST} in the package"
        raise ModelError(
            f"{_shown(order.source)}: not signed, and a key is configured, so it is not installed ({ways})"
        ) from None
    text = (target / signature.name).read_text(encoding="utf-8", errors="replace")
    return verify(target / MANIFEST, read_signature(text, signature.name), order.keys, _shown(order.source))


def _signature_text(place: str, folder: Path) -> str:
    if is_address(place):
        path = _fetch(place, folder / f"fetched{SUFFIX}", LARGEST_TEXT, untold)
    else:
        path = Path(place).expanduser()
    if not path.is_file():
        raise MissingModelError(f"{place}: no such file; it is to hold the signature, of minisign's")
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LARGEST_TEXT)


def _beside(source: str) -> str:
    if not is_address(source):
        return source + SUFFIX
    parts = urlsplit(source)
    return parts._replace(path=parts.path + SUFFIX).geturl()


def _take_files(root: Path, target: Path, tell: Tell) -> None:
    """Every file that the manifest names, and no other. Raises ModelError."""
    manifest = parse((target / MANIFEST).read_text(encoding="utf-8", errors="replace"), f"{root.name}/{MANIFEST}")
    left = BOUNDS.bytes
    if len(manifest.variant) > BOUNDS.files:
        raise ModelError(f"{root.name}: more than {BOUNDS.files} variants")
    for variant in manifest.variant:
        if not (target / variant.file).exists():
            left -= _take_file(root / variant.file, target / variant.file, left, _counted(variant.file, tell))
    sync(target)


def _take_file(source: Path, target: Path, most: int, each: Callable[[int], object]) -> int:
    """Copy a plain file and wait until it is on the disk; how many bytes it has. A link is followed within its own
    folder alone. Raises ModelError."""
    if not source.resolve().is_relative_to(source.parent.resolve()):
        raise ModelError(f"{source}: leads out of the package; copy the file into it")
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingModelError(f"{source.name}: not in the package; truncated, or no model package") from None
    except OSError as error:
        raise ModelError(f"{source}: cannot be read: {error.strerror}") from None
    with open(handle, "rb") as content, target.open("xb") as copy:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ModelError(f"{source}: not a plain file")
        size = _copy(content, copy, most, each, str(source))
    sync(target)
    return size


def _copy(content: IO[bytes], copy: IO[bytes], most: int, each: Callable[[int], object], origin: str) -> int:
    size = 0
    while block := content.read(BLOCK):
        size += len(block)
        if size > most:
            raise ModelError(f"{origin}: larger than {most} bytes, the most that a model package may hold")
        copy.write(block)
        each(len(block))
    return size


def _fetch(address: str, target: Path, most: int, tell: Tell) -> Path:
    """Download over https, and over nothing else on the way. Raises MissingModelError, ModelError."""
    import http.client
    import urllib.error

    shown = _shown(address)
    try:
        with _opened(address) as response, target.open("xb") as copy:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            _check_room(target.parent, total, most, shown)
            size = _copy(response, copy, most, _counted(f"fetching {shown}", tell, total), shown)
    except urllib.error.HTTPError as error:
        # Some stores answer 403 for what is not there.
        kind = MissingModelError if error.code in (403, 404, 410) else ModelError
        raise kind(f"{shown}: {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(f"{shown}: cannot be fetched: {str(reason)[:300]}") from None
    if total is not None and size != total:
        raise ModelError(f"{shown}: ended after {size} of {total} bytes; try again")
    sync(target)
    return target


def _opened(address: str) -> Any:
    import urllib.request

    class OverHttps(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            _check_scheme(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    _check_scheme(address)
    request = urllib.request.Request(address, headers={"User-Agent": "edgewarden"})  # noqa: S310 - https, as checked
    return urllib.request.build_opener(OverHttps).open(request, timeout=PATIENCE)


def _check_scheme(address: str) -> None:
    if urlsplit(address).scheme != "https":
        raise ModelError(f"{_shown(address)}: models are fetched over https alone")


def _check_room(folder: Path, size: int | None, most: int, shown: str) -> None:
    """Raises ModelError when it cannot fit: twice, as it comes and unpacked."""
    if size is not None and size > most:
        raise ModelError(f"{shown}: {size} bytes, more than the {most} that a model package may hold")
    free = shutil.disk_usage(folder).free
    if size is not None and free < 2 * size:
        raise ModelError(
            f"{shown}: {size} bytes need twice as many to be installed, {free} are free in {folder.parent}"
        )


def _counted(what: str, tell: Tell, total: int | None = None) -> Callable[[int], object]:
    done = 0

    def each(size: int) -> None:
        nonlocal done
        done += size
        tell(what, done, total)

    return each


def _shown(source: str) -> str:
    """For people: without what an address may carry of secrets."""
    if not is_address(source):
        return source
    parts = urlsplit(source)
    return redacted(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl())
