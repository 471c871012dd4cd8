"""A model package: a folder with model.toml and its ONNX files. Finding, checking and writing such folders.

What the texts in model.toml may be is manifest.py's; what an ONNX file contains, the engine's and add.py's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.config import did_you_mean
from agent.detection.manifest import InputSpec, Manifest, Variant, parse, to_toml
from agent.detection.versions import Versions, place_of
from agent.engines.disk import sync
from agent.errors import MissingModelError, ModelError

__all__ = ["InputSpec", "Listed", "ModelPackage", "Variant", "find_package", "list_packages", "load_package"]

MANIFEST = "model.toml"
BUNDLED = Path(__file__).resolve().parent.parent / "models"
MODELS_VARIABLE = "EDGEWARDEN_MODELS"


class ModelPackage(Manifest, frozen=True, kw_only=True):
    """A manifest and the folder it stands in."""

    folder: Path

    def file_of(self, variant: Variant) -> Path:
        """Where the variant's ONNX file is."""
        return self.folder / variant.file

    def choose(self, precision: str | None = None) -> Variant:
        """The variant of that precision; without one fp32 if it is there, else the first. Raises ModelError."""
        wanted = precision or "fp32"
        for variant in self.variant:
            if variant.precision == wanted:
                return variant
        if precision is None:
            return self.variant[0]
        have = ", ".join(variant.precision for variant in self.variant)
        raise ModelError(f"{self.name}: has no {precision} variant, only {have}")


class Listed(NamedTuple):
    """A folder among the models: its package, or what is wrong with it."""

    folder: Path
    package: ModelPackage | None
    fault: str = ""


def models_dir() -> Path:
    """Where packages are kept: ``$EDGEWARDEN_MODELS``, else the user's XDG data folder."""
    if directory := os.environ.get(MODELS_VARIABLE):
        return Path(directory).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgewarden" / "models"


def find_package(spec: str | os.PathLike[str], models: Path | None = None) -> ModelPackage:
    """The package of that folder, or of that name in ``models`` (by default ``models_dir()``) or among the bundled.

    Raises MissingModelError when there is none, ModelError when it is not as it should be.
    """
    text = os.fspath(spec)
    models = models or models_dir()
    homes = [Path(text).expanduser()]
    if "/" not in text and text not in ("", ".", ".."):
        homes += [models / text, BUNDLED / text]
    for folder in map(place_of, homes):
        if (folder / MANIFEST).is_file():
            return load_package(folder)
    raise _not_found(text, homes[0], models)


def versions_of(spec: str, models: Path | None = None) -> Versions:
    """Of the model that ``find_package`` finds under this name or path; there need not be any."""
    folder = Path(spec).expanduser()
    if "/" not in spec and spec not in ("", ".", "..") and not (folder / MANIFEST).is_file():
        folder = (models or models_dir()) / spec
    return Versions(folder.parent, folder.name)


def load_package(folder: str | os.PathLike[str]) -> ModelPackage:
    """Read and check a package: model.toml, and that its files are there and have the hashes it names.

    Raises MissingModelError without a model.toml, ModelError with one line for each fault.
    """
    folder = Path(folder)
    manifest = parse(_read(folder / MANIFEST), str(folder / MANIFEST))
    package = _in_folder(manifest, folder)
    faults = [fault for variant in package.variant if (fault := _file_fault(package, variant))]
    if faults:
        raise ModelError("\n".join(faults))
    return package


def write_package(
    models: Path, manifest: Manifest, files: Mapping[str, Path], *, replace: bool = False
) -> ModelPackage:
    """Write ``models/NAME``: ``files`` copied under their names, their hashes entered into the manifest.

    It is made in a hidden folder beside and renamed, so that half a package never has the name. ``replace``: an
    older package of that name makes room. Raises ModelError.
    """
    target = models / manifest.name
    if target.exists() and not replace:
        raise ModelError(f"{target}: there is a package of that name; choose another name, or replace it")
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _staging(models) as staging:
            _fill(staging, manifest, files)
            load_package(staging)
            _move_into_place(staging, target)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written: {error.strerror or error}") from None
    return load_package(target)


def update_package(package: ModelPackage, made: Sequence[tuple[Variant, Path]]) -> ModelPackage:
    """Put variants into a package, each in place of the one of its precision; the files are copied.

    Files are named by their content, and model.toml is exchanged last and at once: an interruption or a full disk
    leaves the package as it was. Raises ModelError.
    """
    named = [_named_by_content(package, variant, file) for variant, file in made]
    fresh = {variant.precision for variant in named}
    kept = tuple(variant for variant in package.variant if variant.precision not in fresh)
    manifest = msgspec.structs.replace(_manifest_of(package), variant=(*kept, *named))
    places = [(package.folder / variant.file, file) for variant, (_, file) in zip(named, made, strict=True)]
    parts = [(target, file) for target, file in places if target != file]
    try:
        for target, file in parts:
            _write_whole(target, file.read_bytes())
        _write_whole(package.folder / MANIFEST, to_toml(manifest).encode())
    except OSError as error:
        for target, _ in parts:
            if target.name not in {variant.file for variant in package.variant}:
                target.unlink(missing_ok=True)
        raise ModelError(f"{package.folder}: cannot be written: {error.strerror or error}") from None
    for variant in package.variant:
        if variant.file not in {one.file for one in manifest.variant}:
            package.file_of(variant).unlink(missing_ok=True)
    return load_package(package.folder)


def list_packages(models: Path) -> list[Listed]:
    """Every package in a folder, by name; also those that are broken, with what is wrong."""
    if not models.is_dir():
        return []
    folders = sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [_listed(folder) for folder in folders]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _named_by_content(package: ModelPackage, variant: Variant, file: Path) -> Variant:
    if file.parent == package.folder:
        return variant  # a file of the package keeps its name
    digest, name = sha256_of(file), package.name
    sparse = "-sparse" if variant.sparse else ""
    return msgspec.structs.replace(variant, file=f"{name}-{variant.precision}{sparse}-{digest[:8]}.onnx", sha256=digest)


def _manifest_of(package: ModelPackage) -> Manifest:
    return Manifest(**{field: getattr(package, field) for field in Manifest.__struct_fields__})


def _write_whole(target: Path, content: bytes) -> None:
    """The file has its name only when all of it is on the disk."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(content)
        sync(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    sync(target.parent)


def _in_folder(manifest: Manifest, folder: Path) -> ModelPackage:
    return ModelPackage(
        name=manifest.name,
        family=manifest.family,
        labels=manifest.labels,
        input=manifest.input,
        variant=manifest.variant,
        folder=folder,
    )


def _listed(folder: Path) -> Listed:
    try:
        return Listed(folder, load_package(place_of(folder)))
    except ModelError as error:
        return Listed(folder, None, str(error).splitlines()[0])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingModelError(f"{path}: no such file; a model package is a folder with a model.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from None


def _file_fault(package: ModelPackage, variant: Variant) -> str:
    path = package.file_of(variant)
    if not path.resolve().is_relative_to(package.folder.resolve()):
        return f"{path}: leads out of the package; copy the file into it"
    if not path.is_file():
        return f"{path}: no such file, and model.toml names it as the {variant.precision} variant"
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    if found != variant.sha256:
        names = f"sha256 {found[:12]}…, not {variant.sha256[:12]}…"
        return f"{path}: not the file that model.toml names ({names}); add the model anew"
    return ""


def _not_found(text: str, path: Path, models: Path) -> ModelError:
    if path.suffix == ".onnx" and path.is_file():
        return ModelError(f"{text}: an ONNX file; make a package of it: edgewarden model add {text} --name {path.stem}")
    if path.is_dir() and "/" in text:
        return MissingModelError(f"{text}: no {MANIFEST} in this folder, so it is no model package")
    names = [folder.name for home in (models, BUNDLED) if home.is_dir() for folder in home.iterdir() if folder.is_dir()]
    known = [name for name in names if not name.startswith((".", "_"))]
    return MissingModelError(f"{text}: no such model package, as a folder or in {models}{did_you_mean(text, known)}")


@contextlib.contextmanager
def _staging(models: Path) -> Iterator[Path]:
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=models))
    try:
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the package from the daemon's user
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fill(staging: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    for name, source in files.items():
        shutil.copyfile(source, staging / name)
        sync(staging / name)
    variants = tuple(
        msgspec.structs.replace(variant, sha256=sha256_of(staging / variant.file)) for variant in manifest.variant
    )
    (staging / MANIFEST).write_text(to_toml(msgspec.structs.replace(manifest, variant=variants)), encoding="utf-8")
    sync(staging / MANIFEST)


def _move_into_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    else:
        with _staging(target.parent) as aside:
            target.rename(aside / "old")
            try:
                staging.rename(target)
            except OSError:
                (aside / "old").rename(target)
                raise
    sync(target.parent)
