from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from agent.data import Detections
from agent.detection import fonts, text
from agent.detection.fonts import SHIPPED, FontFile, characters, code_points, font_for
from agent.detection.overlay import Overlay, draw
from agent.detection.text import draw_mask, text_mask, text_row
from plugins.snapshot.drawing import annotate

LABELS = ["人", "汽车", "자동차", "ねこ", "собака", "σκύλος", "سيارة", "כלב", "ภาษาไทย", "कुत्ता", "Füßgänger", "người"]
EAST, WORLD = SHIPPED / "labels-east.otf", SHIPPED / "labels-world.ttf"


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    yield
    fonts._font_with.cache_clear()
    fonts._note_missing.cache_clear()
    text._rendered.cache_clear()


@pytest.mark.parametrize("label", LABELS)
def test_the_shipped_fonts_draw_every_character_of_a_label_as_itself(label: str) -> None:
    font = font_for(label)
    assert font is not None
    assert font.path in (EAST, WORLD)
    loaded = ImageFont.truetype(str(font.path), 24)
    tofu = bytes(loaded.getmask("\U0010fffd"))
    pictures = [bytes(loaded.getmask(letter)) for letter in dict.fromkeys(label) if ord(letter) in characters(letter)]
    assert tofu not in pictures
    assert len(set(pictures)) > 1 or len(label) == 1


def test_two_chinese_labels_differ_in_the_picture() -> None:
    one, other = _drawn("人"), _drawn("犬")
    assert (one != other).any()


def test_letters_of_arabic_are_joined() -> None:
    apart = sum(mask.alpha.shape[1] for letter in "سيارة" if (mask := text_mask(letter, 40)) is not None)
    word = text_mask("سيارة", 40)
    assert word is not None
    assert word.alpha.shape[1] < 0.9 * apart


def test_an_ascii_label_beside_a_chinese_one_is_drawn_with_the_same_font() -> None:
    alone, beside = _drawn("cup"), _drawn("cup", "人")
    np.testing.assert_array_equal(alone[:60], beside[:60])


def test_a_label_that_no_font_has_becomes_its_class_number_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts, "_of_fontconfig", lambda needed: iter(()))
    monkeypatch.setattr(fonts, "_in_folders", lambda: iter(()))
    with caplog.at_level(logging.WARNING):
        unknown = _drawn("\U0001b170")
        _drawn("\U0001b170")
    assert [record.message[:21] for record in caplog.records] == ["no font for the label"]
    np.testing.assert_array_equal(unknown, _drawn("class 0"))


def test_a_font_of_the_system_helps_where_the_shipped_ones_lack_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "system.otf").write_bytes(EAST.read_bytes())
    monkeypatch.setattr(fonts, "SHIPPED", tmp_path / "nothing")
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert font_for("人") == FontFile(tmp_path / "system.otf")


def test_fontconfig_is_asked_and_its_answer_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = f"{WORLD}\t0\n{EAST}\t65536\n"
    monkeypatch.setattr(fonts, "SHIPPED", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, answer, ""))
    assert font_for("人") == FontFile(EAST, 0)


def test_the_users_own_font_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.otf").write_bytes(EAST.read_bytes())
    monkeypatch.setenv("EDGEWARDEN_FONT", str(tmp_path / "mine.otf"))
    assert font_for("人") == FontFile(tmp_path / "mine.otf")
    assert font_for("سيارة") == FontFile(WORLD)


@pytest.mark.parametrize("content", [b"", b"no font at all", b"ttcf", WORLD.read_bytes()[:300]])
def test_a_file_that_is_no_font_has_no_characters(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.ttf").write_bytes(content)
    assert code_points(FontFile(tmp_path / "broken.ttf")) == frozenset()


def test_what_is_stamped_on_a_picture_is_not_kept_it_never_comes_again() -> None:
    overlay = Overlay(np.zeros((480, 640, 3), np.uint8))
    overlay.stamp("yard", "2026-11-21 00:00:00+0000")
    before = text._rendered.cache_info().currsize
    for second in range(50):
        overlay.stamp("yard", f"2026-11-21 00:00:{second:02d}+0000")
    assert text._rendered.cache_info().currsize == before
    assert overlay.canvas.any()


def test_a_text_is_rendered_once_and_drawn_only_inside_the_picture() -> None:
    row = text_row(["人", " 0.87"], 20)
    assert row is not None
    assert text_mask("人", 20) is text_mask("人", 20)
    for corner in ((-10, -5), (60, 40), (100, 100), (-500, 0), (0, -500)):
        canvas = np.full((48, 64, 3), 200, np.uint8)
        draw_mask(canvas, row, corner, (0, 0, 255))
        assert canvas.shape == (48, 64, 3)
    draw_mask(canvas, row, (0, 0), (0, 0, 255))
    assert canvas[:, :, 0].min() == 0
    assert canvas[:, :, 2].max() == 255


def test_controls_and_line_ends_in_a_label_are_spaces() -> None:
    one, other = text_mask("人\n犬", 20), text_mask("人 犬", 20)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.alpha, other.alpha)


def test_a_snapshots_caption_is_drawn_in_its_own_script() -> None:
    grey = np.full((240, 320, 3), 128, np.uint8)
    one, other = (annotate(grey, (100, 100, 200, 200), name, ("大门",)) for name in ("人", "犬"))
    assert (one != other).any()
    assert (one != annotate(grey, (100, 100, 200, 200), "?", ("大门",))).any()


def _drawn(*labels: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    count = len(labels)
    boxes = np.array([[10, 30 + 60 * row, 90, 70 + 60 * row] for row in range(count)], np.float32)
    found = Detections(
        camera="",
        seq=0,
        captured_at=0.0,
        boxes=boxes,
        scores=np.full(count, 0.87, np.float32),
        class_ids=np.zeros(count, np.int32),
        labels=labels,
        size=(120, 160),
        precision="fp32",
        latency_ms=0.0,
    )
    return draw(np.full((160, 120, 3), 200, np.uint8), found)
