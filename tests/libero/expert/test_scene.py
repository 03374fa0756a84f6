"""Boxes and regions. Oracles: closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gr00t.libero.expert.scene import Boxes, Region
from tests.libero.expert.stub_scene import box, joined


def test_corners_of_a_turned_box_in_closed_form() -> None:
    corners = box((1.0, 2.0, 3.0), (1.0, 1.0, 0.5), np.pi / 4).corners()
    assert corners.shape == (8, 3)
    # A square of side 2 on its tip reaches sqrt(2) along both axes.
    np.testing.assert_allclose(np.ptp(corners, axis=0), [2 * np.sqrt(2), 2 * np.sqrt(2), 1.0], atol=1e-12)
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3], atol=1e-12)


def test_distances_to_boxes_in_closed_form() -> None:
    cube = box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    tipped = box((5.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.pi / 4)
    points = np.array([[0.5, 0, 0], [0, 3, 0], [0, 3, 3], [-2, 2, 2], [5, 2, 0], [3.0, 0, 0]], dtype=float)
    expected = [0, 2, 2 * np.sqrt(2), np.sqrt(3), 2 - np.sqrt(2), 2 - np.sqrt(2)]
    np.testing.assert_allclose(joined(cube, tipped).distances(points), expected, atol=1e-12)
    nothing = Boxes(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)))
    assert np.isinf(nothing.distances(points)).all()


def test_the_highest_box_on_the_way_is_one_that_is_near_it() -> None:
    low, high = box((0.5, 0.1, 0.1), (0.05, 0.05, 0.1)), box((0.5, 0.5, 0.4), (0.05, 0.05, 0.4), np.pi / 4)
    boxes, start, end = joined(low, high), np.array([0.0, 0.0]), np.array([1.0, 0.0])
    # The sides nearest to the way: at y = 0.05, and at 0.5 - 0.05 sqrt(2) = 0.429.
    assert boxes.highest_along(start, end, 0.06) == pytest.approx(0.2)
    assert boxes.highest_along(start, end, 0.42) == pytest.approx(0.2)
    assert boxes.highest_along(start, end, 0.44) == pytest.approx(0.8)
    assert boxes.highest_along(start, end, 0.04) == -np.inf
    assert boxes.highest_along(end, np.array([2.0, 0.0]), 0.06) == -np.inf


def test_a_region_on_its_side_is_as_high_as_it_is_long() -> None:
    on_its_side = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    region = Region(np.array([0.0, 0.0, 1.0]), on_its_side, np.array([0.3, 0.2, 0.1]))
    np.testing.assert_allclose(region.extent, [0.1, 0.2, 0.3], atol=1e-12)
    assert (region.bottom, region.top) == pytest.approx((0.7, 1.3))
