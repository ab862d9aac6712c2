"""The bull's-eye: every segment where readers expect it, with its value."""

import pytest

from echoplane.tasks.cmr_segmentation.outputs.bullseye import SIDE, UNKNOWN, bullseyes
from echoplane.tasks.cmr_segmentation.segments import NAMES, Segment, Wall


def test_segments_lie_where_readers_expect_them() -> None:
    measured = [Segment(k, name, 5.0 + k / 2, 12.0) for k, name in enumerate(NAMES[:16], 1)]
    wall = Wall((*measured, Segment(17, "apex")))
    thickness, thickening = bullseyes(wall)
    places = {int(s["name"].split()[0]): (s["x"] - SIDE / 2, s["y"] - SIDE / 2) for s in thickness["sectors"]}
    for anterior, inferior in ((1, 4), (7, 10), (13, 15)):
        assert places[anterior] == pytest.approx((0, -abs(places[anterior][1])), abs=1e-6)
        assert places[inferior][1] > 0
    for septal in (2, 3, 8, 9, 14):
        assert places[septal][0] < 0
    for lateral in (5, 6, 11, 12, 16):
        assert places[lateral][0] > 0
    assert places[2][1] < 0 < places[3][1], "anteroseptal lies above inferoseptal"
    assert places[6][1] < 0 < places[5][1]
    assert [s["text"] for s in thickness["sectors"]][:2] == ["5.5", "6.0"]
    assert thickening["sectors"][0]["text"] == "118"
    assert thickness["sectors"][16]["colour"] == UNKNOWN


def test_without_segments_nothing_is_drawn() -> None:
    assert bullseyes(Wall(missing="no orientation")) == []
