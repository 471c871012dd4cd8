"""Packages from elsewhere: what is whole and signed comes in, whatever else is refused in one line."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signer import Signer

from agent.detection import delivery
from agent.detection.archive import Bounds, unpack
from agent.detection.delivery import Delivered, Order, deliver
from agent.detection.model import find_package, sha256_of
from agent.detection.signature import read_key, read_signature, verify
from agent.errors import ConfigError, MissingModelError, ModelError


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of a package that ships."""
    return Path(shutil.copytree(find_package("desk").folder, tmp_path / "source" / "desk"))


def tar_of(folder: Path, kind: str = "gz", *, inside: str = "desk") -> Path:
    target = folder.with_name(f"{folder.name}.tar.{kind}" if kind else f"{folder.name}.tar")
    with tarfile.open(target, f"w:{kind}") as tar:  # type: ignore[call-overload]
        tar.add(folder, arcname=inside)
    return target


def delivered(tmp_path: Path, source: Path | str, signer: Signer | None = None, **wishes: str) -> Delivered:
    keys = (read_key(signer.key, "--key"),) if signer is not None else ()
    folder = tmp_path / "staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return deliver(Order(str(source), keys=keys, **wishes), folder)


# what is whole comes in


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
@pytest.mark.parametrize("inside", [".", "desk"])
def test_a_tar_of_a_package_comes_in_whatever_it_is_packed_with(
    kind: str, inside: str, package: Path, tmp_path: Path
) -> None:
    came = delivered(tmp_path, tar_of(package, kind, inside=inside)).package
    assert came.name == "desk"
    assert came.variant == find_package("desk").variant


def test_a_folder_comes_in_with_the_files_that_its_manifest_names_and_no_other(package: Path, tmp_path: Path) -> None:
    (package / "setup.py").write_text("raise SystemExit('run')")
    came = delivered(tmp_path, package).package
    assert {path.name for path in came.folder.iterdir()} == {"model.toml", came.choose().file}


def test_a_file_that_the_manifest_names_must_be_whole(package: Path, tmp_path: Path) -> None:
    model = package / find_package("desk").choose().file
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"not the file that model\.toml names"):
        delivered(tmp_path, package)


@pytest.mark.parametrize("file", ["../../secret", "/etc/passwd", "a/b.onnx", "..", "model.toml", "line\nbreak"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(file: str, package: Path, tmp_path: Path) -> None:
    manifest = package / "model.toml"
    name = find_package("desk").choose().file
    manifest.write_text(manifest.read_text().replace(f'"{name}"', repr(file).replace("'", '"')))
    with pytest.raises(ModelError):
        delivered(tmp_path, package)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a = " + "9" * 10_000, "", "\x00", "a.b." * 5000 + "c = 1", "[" * 1000, "x" * (2 << 20)],
)
def test_a_hostile_manifest_is_refused(text: str, package: Path, tmp_path: Path) -> None:
    (package / "model.toml").write_text(text)
    with pytest.raises(ModelError):
        delivered(tmp_path, package)


def test_a_link_out_of_a_package_and_a_pipe_in_it_are_refused(package: Path, tmp_path: Path) -> None:
    model = package / find_package("desk").choose().file
    shutil.copy(model, tmp_path / "elsewhere.onnx")
    model.unlink()
    model.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="leads out of the package"):
        delivered(tmp_path, package)
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(ModelError, match="not a plain file"):
        delivered(tmp_path, package)


def test_a_source_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingModelError, match="no such file or folder"):
        delivered(tmp_path, tmp_path / "nothing.tar")


# hashes and signatures


def test_a_tar_of_another_hash_is_refused(package: Path, tmp_path: Path) -> None:
    tar = tar_of(package)
    assert delivered(tmp_path, tar, sha256=sha256_of(tar).upper()).package.name == "desk"
    with pytest.raises(ModelError, match="has sha256"):
        delivered(tmp_path, tar, sha256="0" * 64)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_signed_tar_comes_in_with_its_comment(legacy: bool, package: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tar_of(package)
    signer.sign(tar, legacy=legacy)
    assert delivered(tmp_path, tar, signer).signed == "made by a test"


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_signature_of_the_manifest_vouches_for_the_whole_package(
    kind: str, package: Path, tmp_path: Path, signer: Signer
) -> None:
    signer.sign(package / "model.toml")
    assert delivered(tmp_path, package if kind == "folder" else tar_of(package), signer).signed == "made by a test"
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(ModelError, match="damaged or changed"):
        delivered(tmp_path, package if kind == "folder" else tar_of(package), signer)


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_with_a_key_nothing_unsigned_comes_in(kind: str, package: Path, tmp_path: Path, signer: Signer) -> None:
    with pytest.raises(ModelError, match="not signed, and a key is configured"):
        delivered(tmp_path, package if kind == "folder" else tar_of(package), signer)


def test_a_tar_that_was_changed_after_it_was_signed_is_refused(package: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tar_of(package)
    signer.sign(tar)
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or changed"):
        delivered(tmp_path, tar, signer)


def test_a_signature_by_another_key_is_refused(package: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tar_of(package)
    Signer().sign(tar)
    with pytest.raises(ModelError, match="damaged or changed"):
        delivered(tmp_path, tar, signer)  # the same id, another key


def test_a_comment_that_was_changed_is_refused(package: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tar_of(package)
    signature = signer.sign(tar)
    signature.write_text(signature.read_text().replace("made by a test", "made by nobody"))
    with pytest.raises(ModelError, match="damaged or changed"):
        delivered(tmp_path, tar, signer)


@pytest.mark.parametrize("text", ["", "RW", "RWQ" * 30, "untrusted comment: x\nnothing"])
def test_what_is_no_key_is_a_fault_of_the_configuration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.keys"):
        read_key(text, "model.keys")


@given(st.text(max_size=300))
def test_what_is_no_signature_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ModelError, match="not a signature"):
        read_signature(text, "x.minisig")


def test_minisign_itself_makes_the_keys_and_signatures_that_are_taken(tmp_path: Path) -> None:
    minisign = shutil.which("minisign")
    if minisign is None:
        pytest.skip("minisign is not installed")
    file = tmp_path / "file"
    file.write_bytes(b"content" * 1000)
    subprocess.run([minisign, "-G", "-W", "-p", "m.pub", "-s", "m.key"], cwd=tmp_path, check=True, capture_output=True)
    key = read_key(str(tmp_path / "m.pub"), "--key")
    assert key == read_key((tmp_path / "m.pub").read_text().splitlines()[1], "--key")
    assert key.name in (tmp_path / "m.pub").read_text(), "it has the name that minisign gives it"
    for words in (["-S"], ["-S", "-l"]):
        sign = [minisign, *words, "-W", "-s", "m.key", "-m", "file", "-t", "street 2"]
        done = subprocess.run(sign, cwd=tmp_path, check=False, capture_output=True, input=b"\n")
        assert done.returncode == 0, done.stderr
        signature = read_signature((tmp_path / "file.minisig").read_text(), "file.minisig")
        assert signature.prehashed == (words == ["-S"])
        assert verify(file, signature, (key,), "file") == "street 2"
    file.write_bytes(b"another")
    with pytest.raises(ModelError, match="damaged or changed"):
        verify(file, signature, (key,), "file")


def test_without_the_package_for_signatures_its_extra_is_named(tmp_path: Path, signer: Signer) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    signer.sign(file)
    code = (
        "import sys; sys.modules['cryptography.hazmat.primitives.asymmetric.ed25519'] = None\n"
        "from pathlib import Path\nfrom agent.detection.signature import *\n"
        f"f = Path({str(file)!r})\n"
        f"s = read_signature(f.with_name('file.minisig').read_text(), 's')\n"
        f"verify(f, s, [read_key({signer.key!r}, 'k')], 'f')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'edgewarden[signed]'" in done.stderr


# hostile archives


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar_with(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


HOSTILE = {
    "a way up": member("../evil"),
    "a way up from within": member("desk/../../evil"),
    "from the root": member("/tmp/evil"),
    "too deep": member("a/b/c/evil"),
    "a link": member("evil", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("evil", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": member("evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a pipe": member("evil", b"", type=tarfile.FIFOTYPE),
    "a control character": member("evil\x01"),
    "a backslash": member("..\\evil"),
    "an endless name": member("e" * 5000),
    "no name": member(""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_member_is_refused_and_nothing_is_written_outside(what: str, tmp_path: Path) -> None:
    tar = tar_with(tmp_path / "hostile.tar", HOSTILE[what])
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(ModelError):
        unpack(tar, home / "new")
    assert list(tmp_path.rglob("*evil*")) == []


def test_a_link_planted_first_does_not_carry_a_file_out(tmp_path: Path) -> None:
    link = member("desk", b"", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        unpack(tar_with(tmp_path / "x.tar", link, member("desk/evil")), tmp_path / "new")


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="twice"):
        unpack(tar_with(tmp_path / "x.tar", member("a"), member("a")), tmp_path / "new")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = [member(f"f{number}") for number in range(200)]
    with pytest.raises(ModelError, match="more than 64 files"):
        unpack(tar_with(tmp_path / "x.tar", *many), tmp_path / "new")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(mode: str, tmp_path: Path) -> None:
    tar = tar_with(tmp_path / "x.tar", member("big", bytes(8 << 20)), mode=mode)
    assert tar.stat().st_size < 64 << 10
    with pytest.raises(ModelError, match="more than a model package may hold"):
        unpack(tar, tmp_path / "new", Bounds(bytes=1 << 20))
    assert sum(path.stat().st_size for path in (tmp_path / "new").iterdir()) <= 1 << 20


def test_a_header_that_never_ends_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(header)
        assert tar.fileobj is not None
        tar.fileobj.write(bytes(8 << 20))
    with pytest.raises(ModelError, match="header of absurd size"):
        unpack(tmp_path / "x.tar", tmp_path / "new")


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_a_package_that_was_cut_anywhere_is_refused(kind: str, package: Path, tmp_path: Path) -> None:
    whole = tar_of(package, kind)
    content = whole.read_bytes()
    # The end of a tar is 10 kB of nothing; what is cut there is lost by nobody.
    last = len(content) - 1 if kind else package.joinpath("model.toml").stat().st_size
    for length in {0, 1, 10, 511, 512, 513, last // 3, last // 2, last - 1}:
        whole.write_bytes(content[:length])
        with pytest.raises(ModelError):
            delivered(tmp_path, whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    kind=st.integers(0, 3), damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20)
)
def test_a_tar_with_any_damage_is_unpacked_or_refused(
    kind: int, damage: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    mode = ("w", "w:gz", "w:xz", "w:bz2")[kind]
    tar = tar_with(folder / "x.tar", member("desk/a", b"one" * 500), member("desk/b" * 30, b"two"), mode=mode)
    content = bytearray(tar.read_bytes())
    for place, value in damage:
        content[int(place * (len(content) - 1))] = value
    tar.write_bytes(content)
    with contextlib.suppress(ModelError):
        unpack(tar, folder / "new")


# over the network


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; ``/short/NAME`` promises more than it sends, ``/plain/NAME`` leads to http."""

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/short/"):
            content = Path(self.directory, self.path.rpartition("/")[2]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        elif self.path.startswith("/plain/"):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1/{self.path.rpartition('/')[2]}")
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https server of tmp_path/source, by an authority that this machine trusts for once; its address."""
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path("broker.pem"), authority.path("broker.key"))
    (tmp_path / "source").mkdir(exist_ok=True)
    handler = functools.partial(Quiet, directory=str(tmp_path / "source"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("SSL_CERT_FILE", authority.path("ca.pem"))
        yield f"https://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


def test_a_package_is_fetched_over_https_and_must_have_its_hash(package: Path, tmp_path: Path, server: str) -> None:
    tar = tar_of(package)
    address = f"{server}/{tar.name}"
    assert delivered(tmp_path, address, sha256=sha256_of(tar)).package.name == "desk"
    with pytest.raises(ModelError, match="has sha256"):
        delivered(tmp_path, address, sha256="0" * 64)
    with pytest.raises(ModelError, match="give its --sha256, or a key"):
        delivered(tmp_path, address)


def test_a_package_is_fetched_with_its_signature(package: Path, tmp_path: Path, server: str, signer: Signer) -> None:
    tar = tar_of(package)
    with pytest.raises(ModelError, match="not signed"):
        delivered(tmp_path, f"{server}/{tar.name}", signer)
    signer.sign(tar)
    assert delivered(tmp_path, f"{server}/{tar.name}", signer).signed == "made by a test"


def test_a_download_that_ends_too_early_or_leads_elsewhere_is_refused(
    package: Path, tmp_path: Path, server: str
) -> None:
    tar = tar_of(package)
    hashed = sha256_of(tar)
    with pytest.raises(ModelError, match=r"ended after \d+ of \d+ bytes|cannot be fetched"):
        delivered(tmp_path, f"{server}/short/{tar.name}", sha256=hashed)
    with pytest.raises(ModelError, match="over https alone"):
        delivered(tmp_path, f"{server}/plain/{tar.name}", sha256=hashed)
    with pytest.raises(ModelError, match="over https alone"):
        delivered(tmp_path, f"http://127.0.0.1/{tar.name}", sha256=hashed)
    with pytest.raises(MissingModelError, match="404"):
        delivered(tmp_path, f"{server}/nothing.tar", sha256=hashed)


def test_a_server_that_nobody_vouches_for_is_refused(
    package: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ModelError, match="cannot be fetched"):
        delivered(tmp_path, f"{server}/{tar_of(package).name}", sha256="0" * 64)


def test_a_download_that_is_too_large_is_refused(
    package: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BOUNDS", Bounds(bytes=1000))
    tar = tar_of(package)
    with pytest.raises(ModelError, match="may hold"):
        delivered(tmp_path, f"{server}/{tar.name}", sha256=sha256_of(tar))


def test_what_an_address_holds_of_secrets_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        delivered(tmp_path, "https://me:word@127.0.0.1:1/x.tar?token=abc", sha256="0" * 64)
    assert "word" not in str(caught.value)
    assert "abc" not in str(caught.value)
