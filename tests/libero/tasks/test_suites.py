"""Suites, tasks and initial states, against LIBERO's own benchmark module."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gr00t.libero.simulator.environ import simulator_environ
from gr00t.libero.tasks.suites import (
    SUITES,
    LiberoError,
    find_suite,
    language_of,
    libero_package,
    load_init_states,
    load_tasks,
    parse_task_indices,
)


def test_step_limits_are_the_published_ones() -> None:
    limits = {name: suite.max_steps for name, suite in SUITES.items()}
    assert limits == {
        "libero_spatial": 220,
        "libero_object": 280,
        "libero_goal": 600,
        "libero_10": 1000,
        "libero_90": 400,
        "libero_object_prompts": 280,  # ours, as libero_object
        # LIBERO-PRO's, as the suites that they perturb.
        **dict.fromkeys((f"libero_spatial_{each}" for each in ("lan", "object", "swap", "task")), 220),
        **dict.fromkeys((f"libero_object_{each}" for each in ("lan", "object", "swap", "task")), 280),
        **dict.fromkeys((f"libero_goal_{each}" for each in ("lan", "object", "swap", "task")), 600),
        **dict.fromkeys((f"libero_10_{each}" for each in ("lan", "object", "swap", "task")), 1000),
    }


@pytest.mark.parametrize("name", ["libero_object", "libero-object", "object", "LIBERO_Object", " object "])
def test_a_suite_is_found_by_every_spelling_in_use(name: str) -> None:
    assert find_suite(name).name == "libero_object"


def test_long_is_libero_10() -> None:
    assert find_suite("libero_long").name == "libero_10"
    assert find_suite("long-swap").name == "libero_10_swap"


@pytest.mark.parametrize("name", ["libero_object_object", "Object-object", "object_object"])
def test_the_objects_of_libero_object_are_not_libero_object(name: str) -> None:
    suite = find_suite(name)
    assert (suite.name, suite.base, suite.perturbation) == ("libero_object_object", "libero_object", "object")
    assert (find_suite("object").base, find_suite("object").perturbation) == ("libero_object", "")


def test_an_unknown_suite_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        LiberoError, match=r"unknown LIBERO suite 'libero_spacial': did you mean libero_spatial\?"
    ):
        find_suite("libero_spacial")
    with pytest.raises(LiberoError, match=r"'goal_swop': did you mean libero_goal_swap\?"):
        find_suite("goal_swop")


def test_task_lists_are_read_in_order_and_once() -> None:
    suite = find_suite("object")
    assert parse_task_indices("all", suite) == tuple(range(10))
    assert parse_task_indices("3", suite) == (3,)
    assert parse_task_indices("7, 0-2,1", suite) == (7, 0, 1, 2)
    assert parse_task_indices("89", find_suite("90")) == (89,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10", r"tasks '10': 10 is not within 0-9 of libero_object"),
        ("4-2", r"tasks '4-2': 4-2 is not within 0-9 of libero_object"),
        ("0,x", r"tasks '0,x': expected 'all', or indices such as '0,3' or '0-4', got 'x'"),
        ("", r"tasks '': expected 'all'"),
    ],
)
def test_a_wrong_task_list_is_refused_by_text(text: str, message: str) -> None:
    with pytest.raises(LiberoError, match=message):
        parse_task_indices(text, find_suite("object"))


def test_instructions_lose_their_scene_prefix_only() -> None:
    assert language_of("KITCHEN_SCENE10_close_the_top_drawer") == "close the top drawer"
    assert language_of("LIVING_ROOM_SCENE2_put_both_in") == "put both in"
    assert language_of("pick_up_the_milk") == "pick up the milk"


@pytest.mark.libero
def test_tasks_and_initial_states_equal_those_of_libero_s_own_benchmark() -> None:
    package = libero_package()
    published = {
        name: suite
        for name, suite in SUITES.items()
        if not name.endswith("_prompts") and not suite.perturbation
    }
    program = (
        "import json, sys, os\n"
        "out = os.fdopen(os.dup(1), 'w'); os.dup2(2, 1)\n"
        "from libero.libero import benchmark\n"
        "suites = {name: benchmark.get_benchmark_dict()[name]() for name in json.loads(sys.argv[1])}\n"
        "tasks = {n: [(t.name, t.language, t.bddl_file) for t in s.tasks] for n, s in suites.items()}\n"
        "states = suites['libero_object'].get_task_init_states(3)\n"
        "out.write(json.dumps([tasks, states.tolist()]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, json.dumps(list(published))],
        env=simulator_environ(os.environ, backend="osmesa", package=package),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    expected, states = json.loads(result.stdout)
    for name, suite in published.items():
        ours = [[task.name, task.language, task.bddl.name] for task in load_tasks(suite, package)]
        assert ours == expected[name]
        assert len(ours) == suite.num_tasks
    task = load_tasks(SUITES["libero_object"], package)[3]
    assert task.bddl.is_file()
    np.testing.assert_array_equal(load_init_states(task), np.array(states))
