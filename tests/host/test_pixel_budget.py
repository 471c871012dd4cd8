"""Pixels are charged to whoever holds them, exactly."""

from __future__ import annotations

import gc

import pytest

from agent.host.pixels import PixelBudget
from agent.testing import make_frame


def test_a_slice_kept_is_charged_and_letting_go_is_noticed() -> None:
    budget, other = PixelBudget(1000), PixelBudget(1000)
    frame = make_frame(64, 48)
    lent, others = budget.lend(frame), other.lend(frame)
    assert lent is not None
    assert others is not None
    kept = lent.pixels[3:5, 3:5][::2]
    del lent, others
    gc.collect()
    assert budget.held() == frame.nbytes
    assert other.held() == 0, "another plugin's keeping, or the pipeline's, is not this one's"
    assert budget.lend(frame) is None
    assert budget.withheld == 1
    del kept
    gc.collect()
    assert budget.held() == 0
    assert budget.lend(frame) is not None


def test_what_is_lent_is_the_same_picture_and_cannot_be_written() -> None:
    frame = make_frame()
    lent = PixelBudget(0).lend(frame)
    assert lent is not None
    assert (lent.pixels == frame.pixels).all()
    with pytest.raises(ValueError, match="read-only"):
        lent.pixels[0, 0] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        lent.pixels.flags.writeable = True
    assert lent.jpeg(80) is frame.jpeg(80), "a picture is encoded once for everybody"
