"""Images and folders of images; a broken one costs itself alone."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg_server import number_of, numbered_picture

from agent.errors import MissingSourceError, SourceError
from agent.sources.images import ImageFile, ImageFolder, is_truncated, natural_order, read_image


def write(path: Path, number: int = 0) -> Path:
    cv2.imwrite(str(path), numbered_picture(number))
    return path


def names_in(folder: ImageFolder) -> list[str]:
    names = []
    folder.open()
    while (picture := folder.read()) is not None:
        names.append(picture.name)
    folder.close()
    return names


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".webp", ".tiff"])
def test_an_image_is_one_picture_and_then_the_end(tmp_path: Path, suffix: str) -> None:
    source = ImageFile(write(tmp_path / f"a{suffix}", 77))
    source.open()
    picture = source.read()
    assert picture is not None
    assert (number_of(picture.pixels), picture.name, picture.position) == (77, f"a{suffix}", 0.0)
    assert source.read() is None


def test_grey_and_transparent_images_become_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 9), 100, np.uint8))
    cv2.imwrite(str(tmp_path / "clear.png"), np.full((8, 9, 4), 100, np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 9, 3), 30000, np.uint16))
    for name in ("grey.png", "clear.png", "deep.png"):
        pixels = read_image(tmp_path / name)
        assert pixels.shape == (8, 9, 3)
        assert pixels.dtype == np.uint8


def test_a_folder_is_read_in_natural_order_one_picture_a_second(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        write(tmp_path / f"frame{number}.png", number)
    folder = ImageFolder(tmp_path)
    folder.open()
    pictures = [folder.read() for _ in range(5)]
    assert [number_of(picture.pixels) for picture in pictures if picture] == [1, 2, 9, 10, 100]
    assert [picture.position for picture in pictures if picture] == [0, 1, 2, 3, 4]
    assert folder.read() is None


def test_a_folder_plays_as_fast_as_configured(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.png")
    folder = ImageFolder(tmp_path, fps=4)
    folder.open()
    assert [picture.position for picture in iter(folder.read, None) if picture] == [0, 0.25, 0.5]


def test_broken_images_in_a_folder_are_told_counted_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_text("not a picture")
    whole = write(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "d.jpg").write_bytes(whole[: len(whole) // 2])
    whole = write(tmp_path / "whole.png").read_bytes()
    (tmp_path / "e.png").write_bytes(whole[: len(whole) // 2])
    folder = ImageFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert names_in(folder) == ["a.jpg", "whole.jpg", "whole.png"]
    reasons = [line.removeprefix(f"{tmp_path}/") for line in folder.skipped]
    assert reasons == [
        "b.jpg: is an empty file",
        "c.jpg: not an image that OpenCV can decode",
        "d.jpg: truncated image",
        "e.png: truncated image",
    ]
    assert [record.getMessage() for record in caplog.records] == [f"{line}; skipped" for line in folder.skipped]
    assert capfd.readouterr().err == ""


def test_what_is_no_image_by_its_name_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "._a.jpg").write_bytes(b"a Mac was here")
    (tmp_path / "sub.jpg").mkdir()
    folder = ImageFolder(tmp_path)
    assert names_in(folder) == ["a.jpg"]
    assert (len(folder), folder.skipped) == (1, [])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images in this folder"):
        ImageFolder(tmp_path).open()


def test_a_folder_of_broken_images_alone_is_an_error_at_its_end(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    folder = ImageFolder(tmp_path)
    folder.open()
    with pytest.raises(SourceError, match="not one of its 2 images"):
        folder.read()


@pytest.mark.parametrize("kind", [ImageFile, ImageFolder])
def test_what_is_not_there_is_missing(tmp_path: Path, kind: type[ImageFile] | type[ImageFolder]) -> None:
    with pytest.raises(MissingSourceError):
        kind(tmp_path / "none.jpg").open()


def test_a_jpeg_with_a_thumbnail_is_truncated_when_the_picture_is(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.jpg").read_bytes()
    exif = b"Exif\0\0" + whole
    with_thumbnail = whole[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + whole[2:]
    assert not is_truncated(with_thumbnail)
    assert not is_truncated(with_thumbnail + b"a phone's film follows \xff\xda and so on")
    assert is_truncated(with_thumbnail[: len(with_thumbnail) - len(whole) // 2])


def test_real_photographs_are_whole(material: Path) -> None:
    photographs = sorted((material / "images").rglob("*.jpg"))
    assert photographs
    assert not [path for path in photographs if is_truncated(path.read_bytes())]


def test_names_sort_as_people_count() -> None:
    names = ["a10", "a9", "A1", "b", "a", "10", "9", "a1b2", "a1b10", "a²"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "A1", "a1b2", "a1b10", "a9", "a10", "a²", "b"]
