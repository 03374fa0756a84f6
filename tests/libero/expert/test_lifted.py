"""Wrong objects that are lifted, in a world of boxes. Oracle: heights by hand."""

from __future__ import annotations

import pytest

from gr00t.libero.expert.lifted import LIFT, LiftWatch, unnamed_objects
from gr00t.libero.expert.scene import Goal, Region
from tests.libero.expert.stub_scene import StubScene, box


class Kitchen(StubScene):
    """Three things to carry, a basket with a region of its own, and a cabinet that stays."""

    def __init__(self, *goals: Goal) -> None:
        half = (0.02, 0.02, 0.05)
        things = ("milk_1", "butter_1", "soup_1", "basket_1", "cabinet_1")
        objects = {name: box((0.2 * place, 0.0, 0.05), half) for place, name in enumerate(things)}
        inside = Region(*(box((0.6, 0, 0.05), half).centers[0], *box((0, 0, 0), half).rotations, half))
        super().__init__(objects, {"basket_1_contain_region": inside}, list(goals), fixed=("cabinet_1",))

    def parent_of(self, region: str) -> str | None:
        return {"basket_1_contain_region": "basket_1"}.get(region)

    def raise_by(self, name: str, height: float) -> None:
        self._shift(name, box((0.0, 0.0, height), (0.0, 0.0, 0.0)).centers[0])


IN_BASKET = ["in", "milk_1", "basket_1_contain_region"]


@pytest.mark.parametrize(
    ("goals", "unnamed"),
    [
        ([IN_BASKET], ["butter_1", "soup_1"]),
        ([IN_BASKET, ["on", "soup_1", "cabinet_1"]], ["butter_1"]),
        ([["turnon", "cabinet_1"]], ["milk_1", "butter_1", "soup_1", "basket_1"]),
        ([IN_BASKET, ["on", "soup_1", "table_region"], ["on", "butter_1", "soup_1"]], []),
    ],
)
def test_what_the_goals_speak_of_is_not_wrong(goals: list[Goal], unnamed: list[str]) -> None:
    assert unnamed_objects(Kitchen(*goals)) == unnamed


def test_the_first_wrong_object_that_is_lifted_by_four_centimetres_stays_the_one() -> None:
    scene = Kitchen(IN_BASKET)
    watch = LiftWatch(scene)
    scene.raise_by("butter_1", 0.5)
    # Where it lies when the episode begins is what counts, not where it lay when the task was opened.
    watch.begin()
    for name in ("milk_1", "basket_1", "cabinet_1"):
        scene.raise_by(name, 1.0)
    scene.raise_by("butter_1", 0.039)
    assert watch.look() is None
    scene.raise_by("butter_1", 0.002)
    assert watch.look() == "butter_1"
    scene.raise_by("butter_1", -LIFT)
    scene.raise_by("soup_1", 2 * LIFT)
    assert watch.look() == "butter_1"
    watch.begin()
    assert watch.look() is None


def test_of_two_in_one_step_it_is_the_higher_one_and_of_none_there_is_none() -> None:
    scene = Kitchen(IN_BASKET)
    watch = LiftWatch(scene)
    scene.raise_by("butter_1", LIFT + 0.01)
    scene.raise_by("soup_1", LIFT + 0.02)
    assert watch.look() == "soup_1"
    alone = LiftWatch(Kitchen(["on", "milk_1", "soup_1"], ["on", "butter_1", "basket_1"]))
    assert alone.look() is None
