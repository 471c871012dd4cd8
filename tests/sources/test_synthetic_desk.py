"""The synthetic camera: the same desk for the same seed, truth beside the picture, a live camera's pace."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agent.errors import ConfigError, SourceError
from agent.sources.base import Source
from agent.sources.desk.domains import CAMERA, EVALUATION, TRAINING, Domain
from agent.sources.desk.motion import MovingDesk
from agent.sources.desk.scene import Scene, scene_of
from agent.sources.desk.things import LABELS
from agent.sources.synthetic import SyntheticDesk, parse


class FakeTime:
    """A clock that goes forward only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


def _camera(uri: str, at: FakeTime) -> SyntheticDesk:
    camera = SyntheticDesk(uri, clock=at.clock, wait=at.wait)
    camera.open()
    return camera


def _pixels(camera: SyntheticDesk) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = camera.read()
    assert picture is not None
    return picture.pixels


def test_the_same_seed_gives_the_same_pictures_in_the_same_order() -> None:
    first, second = (_camera("synthetic://desk?seed=5&size=320x240", FakeTime()) for _ in range(2))
    for _ in range(20):
        assert np.array_equal(_pixels(first), _pixels(second))


def test_another_seed_gives_another_desk() -> None:
    first, second = (_camera(f"synthetic://desk?seed={seed}&size=320x240", FakeTime()) for seed in (5, 6))
    assert not np.array_equal(_pixels(first), _pixels(second))


def test_it_is_a_live_source_whose_pictures_have_the_size_asked_for() -> None:
    camera = _camera("synthetic://desk?size=400x300", FakeTime())
    pixels = _pixels(camera)
    assert isinstance(camera, Source)
    assert camera.live
    assert pixels.shape == (300, 400, 3)
    assert pixels.dtype == np.uint8


def test_pictures_come_at_the_frame_rate_and_the_first_at_once() -> None:
    at = FakeTime()
    camera = _camera("synthetic://desk?fps=10&size=320x240", at)
    for _ in range(4):
        camera.read()
    assert at.waits == pytest.approx([0.1, 0.1, 0.1])


def test_pictures_that_were_not_read_in_time_are_missed() -> None:
    at = FakeTime()
    camera = _camera("synthetic://desk?fps=10&size=320x240&seed=3", at)
    camera.read()
    at.now += 2.0
    late = _pixels(camera)
    assert np.array_equal(late, MovingDesk(3, (320, 240)).picture(2.0).pixels)


def test_two_pictures_are_never_the_same_even_when_nothing_moves() -> None:
    camera = _camera("synthetic://desk?size=320x240", FakeTime())
    assert not np.array_equal(_pixels(camera), _pixels(camera))


def test_a_closed_camera_says_so_and_can_be_opened_again() -> None:
    camera = _camera("synthetic://desk?size=320x240", FakeTime())
    first = _pixels(camera)
    camera.close()
    camera.close()
    with pytest.raises(SourceError, match="closed"):
        camera.read()
    camera.open()
    assert np.array_equal(_pixels(camera), first)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("fps=0", "fps"),
        ("fps=fast", "fps"),
        ("fps=nan", "fps"),
        ("size=640", "size"),
        ("size=20x20", "size"),
        ("size=99999x480", "size"),
        ("seed=-1", "seed"),
        ("seed=", "seed"),
        ("speed=3", "speed"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_stood_there(query: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: ") as caught:
        SyntheticDesk(f"synthetic://desk?{query}")
    assert len(caught.value.faults) == 1


def test_all_wrong_parameters_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("synthetic://desk?fps=-3&size=big&seed=1&colour=red")
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("uri", ["synthetic://garden", "synthetic://", "synthetic://desk/drawer"])
def test_another_scene_than_the_desk_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="no such synthetic camera"):
        parse(uri)


def _assert_truth_inside(scene: Scene) -> None:
    height, width = scene.pixels.shape[:2]
    for label, (x1, y1, x2, y2), visible in scene.truths:
        assert label in LABELS
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert 0 < visible <= 1


@pytest.mark.parametrize("domain", [TRAINING, EVALUATION], ids=["training", "evaluation"])
@pytest.mark.parametrize("size", [(640, 480), (320, 240), (800, 450)])
def test_the_truth_of_a_still_lies_inside_the_picture(domain: Domain, size: tuple[int, int]) -> None:
    for index in range(4):
        _assert_truth_inside(scene_of(9, index, domain, size))


def test_a_still_can_be_drawn_again_and_out_of_order() -> None:
    later, earlier = scene_of(4, 8, TRAINING), scene_of(4, 2, TRAINING)
    again = scene_of(4, 8, TRAINING)
    assert np.array_equal(later.pixels, again.pixels)
    assert later.truths == again.truths
    assert not np.array_equal(later.pixels, earlier.pixels)


def test_training_and_evaluation_share_no_family() -> None:
    assert not TRAINING.families() & EVALUATION.families()
    assert CAMERA.families() <= TRAINING.families() | EVALUATION.families()


def test_things_come_and_go_and_the_desk_is_empty_at_first() -> None:
    desk = MovingDesk(1, (320, 240))
    seen = [{one.label for one in desk.picture(n / 5).truths} for n in range(150)]
    assert not seen[0]
    assert set().union(*seen) == set(LABELS)
    for label in LABELS:
        changes = sum((label in before) != (label in after) for before, after in itertools.pairwise(seen))
        assert changes >= 2, f"{label} did not come and go within 30 s"


def test_what_lies_on_the_desk_stays_where_it_is_until_a_hand_takes_it() -> None:
    desk = MovingDesk(1, (320, 240))
    for n in range(300):
        scene = desk.picture(n / 10)
        _assert_truth_inside(scene)
        for one in scene.truths:
            if one.label != "hand" and one.visible > 0.99:
                return
    pytest.fail("nothing ever lay there in full")


def test_going_back_in_time_shows_the_same_picture_again() -> None:
    desk = MovingDesk(2, (320, 240))
    early = desk.picture(3.0)
    desk.picture(25.0)
    again = desk.picture(3.0)
    assert np.array_equal(early.pixels, again.pixels)
    assert early.truths == again.truths
