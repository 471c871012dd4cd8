from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.detection import model
from agent.detection.manifest import InputSpec, Manifest, Variant, parse, to_toml
from agent.detection.model import find_package, list_packages, load_package, models_dir, sha256_of, write_package
from agent.errors import MissingModelError, ModelError

EXAMPLE = """
name = "desk"
family = "yolov8"
labels = ["phone", "cup"]
[input]
size = [320, 256]
colour = "rgb"
mean = [0.0, 0.0, 0.0]
scale = [0.00392156862745098, 0.00392156862745098, 0.00392156862745098]
resize = "letterbox"
pad = 114
[[variant]]
precision = "fp32"
file = "desk.onnx"
sha256 = "SHA"
[variant.accuracy]
data = "fresh scenes"
map50 = 0.93
"""

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.floats(-1e6, 1e6)
values = st.one_of(texts, st.booleans(), st.integers(-(2**62), 2**62), numbers, st.lists(numbers, max_size=3))
manifests = st.builds(
    Manifest,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    family=texts,
    labels=st.lists(texts, min_size=1, max_size=4).map(tuple),
    input=st.builds(
        InputSpec,
        size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
        colour=st.sampled_from(["rgb", "bgr"]),
        mean=st.tuples(numbers, numbers, numbers),
        scale=st.tuples(*[numbers.filter(bool)] * 3),
        resize=st.sampled_from(["letterbox", "letterbox-topleft", "stretch", "crop"]),
        pad=st.integers(0, 255),
    ),
    variant=st.lists(
        st.builds(
            Variant,
            precision=st.sampled_from(["fp32", "fp16", "int8"]),
            file=st.from_regex(r"[a-z]{1,9}\.onnx", fullmatch=True),
            sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            calibration=st.none() | texts,
            accuracy=st.dictionaries(texts, values, max_size=3),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda variant: variant.precision,
    ).map(tuple),
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "some.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def package(tmp_path: Path, weights: Path) -> Path:
    """The folder of a good package."""
    folder = tmp_path / "models" / "desk"
    folder.mkdir(parents=True)
    (folder / "desk.onnx").write_bytes(weights.read_bytes())
    (folder / "model.toml").write_text(EXAMPLE.replace("SHA", sha256_of(weights)))
    return folder


def edit(package: Path, old: str, new: str) -> None:
    text = (package / "model.toml").read_text()
    assert old in text
    (package / "model.toml").write_text(text.replace(old, new))


def manifest(name: str = "desk") -> Manifest:
    return msgspec.structs.replace(parse(EXAMPLE.replace("SHA", "0" * 64), "example"), name=name)


@given(manifests)
def test_what_is_written_is_read_back_the_same(manifest: Manifest) -> None:
    assert parse(to_toml(manifest), "model.toml") == manifest


def test_a_good_package_is_loaded_with_all_that_its_file_says(package: Path) -> None:
    loaded = load_package(package)
    assert (loaded.name, loaded.family, loaded.labels) == ("desk", "yolov8", ("phone", "cup"))
    assert (loaded.input.size, loaded.input.resize, loaded.input.pad) == ((320, 256), "letterbox", 114)
    (variant,) = loaded.variant
    assert variant.accuracy == {"data": "fresh scenes", "map50": 0.93}
    assert loaded.file_of(variant).read_bytes() == b"weights"
    assert loaded.choose() is loaded.choose("fp32") is variant
    with pytest.raises(ModelError, match="desk: has no int8 variant, only fp32"):
        loaded.choose("int8")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"rgb"', '"grb"', 'input.colour: expected rgb | bgr, got "grb"; did you mean "rgb"?'),
        ("pad = 114", "padding = 114", 'input.padding: unknown key; did you mean "pad"?'),
        ("pad = 114", "pad = 256", "input.pad:"),
        ("[320, 256]", "[320, 0]", "input.size"),
        ("[320, 256]", "[320]", "input.size"),
        ("mean = [0.0,", "mean = [nan,", "input.mean: three finite numbers"),
        ("scale = [0.00392156862745098,", "scale = [0,", "input.scale: three finite numbers other than 0"),
        ('["phone", "cup"]', "[]", "labels:"),
        ('family = "yolov8"', "", "family: missing"),
        ('"fp32"', '"fp8"', "variant[0].precision"),
        ("[[variant]]", "[[varaint]]", "variant: expected a list"),
        ('"desk.onnx"', '"../desk.onnx"', "variant[0].file"),
        ('"desk.onnx"', '"/etc/passwd"', "variant[0].file"),
        ('"desk.onnx"', '".."', "variant[0].file"),
        ('name = "desk"', 'name = "../desk"', "name:"),
        ("[input]", "[input", "not valid TOML"),
    ],
)
def test_each_fault_in_model_toml_is_one_line_with_the_key(package: Path, old: str, new: str, fault: str) -> None:
    edit(package, old, new)
    with pytest.raises(ModelError) as error:
        load_package(package)
    text = str(error.value)
    assert text.startswith(f"{package}/model.toml: ")
    assert fault in text.splitlines()[0]


def test_several_faults_are_told_together_a_line_each(package: Path) -> None:
    edit(package, '"rgb"', '"grey"')
    edit(package, "pad = 114", "pad = 999")
    with pytest.raises(ModelError) as error:
        load_package(package)
    assert len(str(error.value).splitlines()) == 2


def test_two_variants_of_one_precision_are_refused(package: Path) -> None:
    text = (package / "model.toml").read_text()
    (package / "model.toml").write_text(text + text[text.index("[[variant]]") :])
    with pytest.raises(ModelError, match="there are two of precision fp32"):
        load_package(package)


def test_a_file_that_was_changed_is_refused(package: Path) -> None:
    (package / "desk.onnx").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"desk\.onnx: not the file that model\.toml names"):
        load_package(package)


def test_a_file_that_is_missing_is_named(package: Path) -> None:
    (package / "desk.onnx").unlink()
    with pytest.raises(ModelError, match=r"desk\.onnx: no such file, and model\.toml names it as the fp32 variant"):
        load_package(package)


def test_a_link_out_of_the_package_is_refused(package: Path, weights: Path) -> None:
    (package / "desk.onnx").unlink()
    (package / "desk.onnx").symlink_to(weights)
    with pytest.raises(ModelError, match="leads out of the package"):
        load_package(package)


def test_a_package_is_found_by_folder_by_name_and_among_the_bundled(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = package.parent
    assert find_package(package).folder == package
    assert find_package("desk", models).folder == package
    monkeypatch.setenv("EDGEWARDEN_MODELS", str(models))
    assert models_dir() == models
    assert find_package("desk").folder == package
    monkeypatch.setattr(model, "BUNDLED", models)
    assert find_package("desk", tmp_path / "empty").folder == package
    monkeypatch.chdir(models)
    assert find_package("desk", tmp_path / "empty").name == "desk"


def test_what_is_not_found_is_said_with_the_nearest_name_or_the_way_out(package: Path, weights: Path) -> None:
    with pytest.raises(MissingModelError, match='did you mean "desk"') as error:
        find_package("dsk", package.parent)
    assert error.value.exit_code == 69
    with pytest.raises(ModelError, match=r"edgewarden model add .*some\.onnx --name some"):
        find_package(weights)
    with pytest.raises(MissingModelError, match=r"no model\.toml in this folder"):
        find_package(package.parent)


def test_a_package_is_written_with_the_hashes_of_its_files(tmp_path: Path, weights: Path) -> None:
    written = write_package(tmp_path / "new" / "models", manifest(), {"desk.onnx": weights})
    assert written == load_package(tmp_path / "new" / "models" / "desk")
    assert written.variant[0].sha256 == sha256_of(weights)
    assert written.folder.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in written.folder.parent.iterdir()] == ["desk"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, weights: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(ModelError, match="cannot be written"):
        write_package(models, manifest(), {"desk.onnx": tmp_path / "missing.onnx"})
    with pytest.raises(ModelError):
        write_package(models, manifest(), {"other.onnx": weights})
    assert list(models.iterdir()) == []


def test_an_older_package_is_replaced_only_when_that_is_wanted(package: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.onnx"
    newer.write_bytes(b"better weights")
    with pytest.raises(ModelError, match="there is a package of that name"):
        write_package(package.parent, manifest(), {"desk.onnx": newer})
    assert load_package(package).file_of(load_package(package).variant[0]).read_bytes() == b"weights"
    write_package(package.parent, manifest(), {"desk.onnx": newer}, replace=True)
    assert (package / "desk.onnx").read_bytes() == b"better weights"
    assert [path.name for path in package.parent.iterdir()] == ["desk"]


def test_an_older_package_stays_when_its_replacement_fails(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        write_package(package.parent, manifest(), {"desk.onnx": tmp_path / "missing"}, replace=True)
    assert load_package(package).name == "desk"


def test_a_broken_package_is_listed_with_its_fault(package: Path) -> None:
    (package.parent / "broken").mkdir()
    (package.parent / ".new-half").mkdir()
    (package.parent / "readme.txt").touch()
    broken, good = list_packages(package.parent)
    assert (good.folder.name, good.fault) == ("desk", "")
    assert broken.package is None
    assert "no such file" in broken.fault
    assert list_packages(package.parent / "nowhere") == []
