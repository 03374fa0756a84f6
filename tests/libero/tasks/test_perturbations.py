"""Names of LIBERO-PRO's suites, against the list of its paper."""

from __future__ import annotations

import pytest

from gr00t.eval.arms.published import suite_data_config, suite_model
from gr00t.libero.tasks.perturbations import PERTURBED, listed, perturbed, split_suite, suite_title
from gr00t.libero.tasks.suites import SUITES

NAMES = [
    f"libero_{base}_{perturbation}"
    for base in ("spatial", "object", "goal", "10")
    for perturbation in ("lan", "object", "swap", "task")
]


def test_there_are_sixteen_perturbed_suites_of_ten_tasks() -> None:
    found = [suite for suite in SUITES.values() if suite.perturbation]
    assert [suite.name for suite in found] == NAMES
    assert {suite.num_tasks for suite in found} == {10}
    assert [perturbed(suite.base, suite.perturbation) for suite in found] == NAMES


@pytest.mark.parametrize("name", ["libero_90", "libero_90_lan", "libero_object_prompts", "libero_object"])
def test_what_is_no_perturbation_of_the_four_is_itself(name: str) -> None:
    assert split_suite(name) == (name, "")
    assert suite_title(name) == name


def test_a_title_says_what_is_perturbed() -> None:
    assert suite_title("libero_10_swap") == "libero_10_swap (places swapped)"
    assert suite_title("libero_object_object") == "libero_object_object (other looks)"
    assert suite_title("libero_goal_lan") == "libero_goal_lan (other words)"
    assert suite_title("libero_spatial_task") == "libero_spatial_task (other task)"


def test_whole_sets_of_perturbations_are_listed_in_a_few_words() -> None:
    assert listed([*PERTURBED, *NAMES]) == (
        "libero_spatial, libero_object, libero_goal, libero_10; "
        "libero_spatial, libero_object, libero_goal, libero_10 with _lan, _object, _swap, _task"
    )
    assert listed(["libero_90", "libero_goal_lan"]) == "libero_90, libero_goal_lan"


def test_a_perturbed_suite_is_played_by_the_checkpoint_of_its_base() -> None:
    assert (
        suite_model("libero_10_task")
        == suite_model("libero_10")
        == ("youliangtan/gr00t-n1.5-libero-long-posttrain")
    )
    assert suite_data_config("libero_goal_swap").endswith("LiberoDataConfigMeanStd")
    assert suite_data_config("libero_spatial_swap").endswith("LiberoDataConfig")
