"""What is drawn on pictures reads well: at any size, on any ground, for colour-blind people too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detection.overlay import BLACK, PALETTE, WHITE, Colour, Mark, Overlay, ascii_text, colour_of, ink_on

SIZES = [(16, 16), (160, 120), (320, 240), (1920, 1080), (3840, 2160)]
# Linear RGB as seen without red, green (Vienot, Brettel and Mollon 1999) or blue cones (Brettel et al. 1997, coarse).
BLINDNESS = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    "tritan": [[1.0, 0.14461, -0.14461], [0.0, 0.85924, 0.14076], [0.0, 0.85924, 0.14076]],
    "none": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}


def _grey(width: int, height: int, value: int = 90) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((height, width, 3), value, np.uint8)


def _linear(colour: Colour) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rgb = np.array(colour[::-1]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(
    linear: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(matrix @ linear / [0.9505, 1.0, 1.089], 0.0, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", sorted(BLINDNESS))
def test_no_two_colours_look_alike_to_anybody(eye: str) -> None:
    seen = [_lab(np.array(BLINDNESS[eye]) @ _linear(colour)) for colour in PALETTE]
    nearest = min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))
    assert nearest > 9  # CIE 1976; 2.3 is just noticeable


@pytest.mark.parametrize("colour", [*PALETTE, BLACK, WHITE])
def test_the_ink_contrasts_with_every_plate(colour: Colour) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    one, other = (float(weights @ _linear(c)) for c in (colour, ink_on(colour)))
    assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5  # WCAG AA


def test_a_label_has_its_colour_for_ever_and_people_are_orange() -> None:
    assert colour_of("person") == colour_of(0) == PALETTE[0]
    assert colour_of("car") == colour_of("car")
    assert colour_of(7) == colour_of(0)


@pytest.mark.parametrize("size", SIZES)
def test_letters_and_lines_grow_with_the_picture_and_are_never_too_small(size: tuple[int, int]) -> None:
    width, height = size
    overlay = Overlay(_grey(width, height))
    overlay.mark([Mark((width * 0.3, height * 0.4, width * 0.6, height * 0.8), ("person", " 0.87"), PALETTE[0])])
    assert overlay.canvas.shape == (height, width, 3)
    plate = (overlay.canvas[: int(height * 0.4), int(width * 0.3) :] == PALETTE[0]).all(axis=2).any(axis=1)
    if height >= 120:
        assert plate.sum() >= max(12, 0.034 * height)


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_a_box_is_seen_on_any_ground(ground: int) -> None:
    overlay = Overlay(_grey(640, 480, ground))
    overlay.mark([Mark((100, 100, 300, 300), ("x",), WHITE)])
    row = overlay.canvas[200, 90:112, 0].astype(int)
    assert row.max() == 255
    assert row.min() == 0


def test_captions_of_neighbours_do_not_cover_each_other_while_there_is_room() -> None:
    overlay = Overlay(_grey(1280, 720))
    colours = PALETTE[:4]
    boxes = [(400.0 + 12 * n, 300.0 + 6 * n, 460.0 + 12 * n, 420.0 + 6 * n) for n in range(4)]
    overlay.mark(
        Mark(box, ("person", f" 0.9{n}"), colour) for n, (box, colour) in enumerate(zip(boxes, colours, strict=True))
    )
    alone = []
    for n, (box, colour) in enumerate(zip(boxes, colours, strict=True)):
        single = Overlay(_grey(1280, 720))
        single.mark([Mark(box, ("person", f" 0.9{n}"), colour)])
        alone.append(int((single.canvas == colour).all(axis=2).sum()))
    together = [int((overlay.canvas == colour).all(axis=2).sum()) for colour in colours]
    assert all(one > 0.75 * other for one, other in zip(together, alone, strict=True))


def test_a_zone_is_outlined_named_and_tinted_while_something_is_in_it() -> None:
    polygon = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
    empty, full = Overlay(_grey(640, 480)), Overlay(_grey(640, 480))
    empty.zone("yard", polygon)
    full.zone("yard", polygon, lit=True)
    assert tuple(empty.canvas[240, 320]) == (90, 90, 90)
    assert full.canvas[240, 320, 0] > 100
    assert tuple(empty.canvas[300, 160]) == WHITE
    full.mark([Mark((150, 100, 400, 400), ("person",), PALETTE[0])])
    assert (full.canvas[122:135, 165:190] == WHITE).all(axis=2).any()  # its name is not covered by the box


@settings(max_examples=60)
@given(
    st.tuples(*[st.floats(-1e4, 1e4)] * 4),
    st.text(max_size=40),
    st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2)), max_size=6),
    st.booleans(),
)
def test_any_box_text_and_polygon_can_be_drawn_and_leaves_the_picture_alone(
    box: tuple[float, float, float, float], text: str, polygon: list[tuple[float, float]], dashed: bool
) -> None:
    pixels = np.zeros((90, 120, 3), np.uint8)
    overlay = Overlay(pixels)
    overlay.zone(text, polygon, lit=True)
    overlay.mark([Mark(box, (text, " 0.5"), PALETTE[1], dashed), Mark(box, (text,), PALETTE[2])])
    overlay.stamp(text, "now")
    assert overlay.canvas.shape == pixels.shape
    assert not pixels.any()


def test_text_of_other_scripts_is_drawn_as_far_as_opencvs_font_goes() -> None:
    assert ascii_text("Müller é 猫") == "Muller e ?"
