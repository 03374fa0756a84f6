"""What collect_scenes.py draws, and how it is read. Oracle: a stub's scenes, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("libero", reason="scripts/setup_env.sh libero installs it")

from examples.Libero.demo_policy.training import collect_scenes
from examples.Libero.demo_policy.training.collect_scenes import KINDS, CollectScenesOptions, draw, run
from examples.Libero.demo_policy.training.scenes import load_scenes
from gr00t.libero.datagen.labelled_scenes import LabelledScenes, sample_scenes
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks


class StubSimulator:
    """Draws grey, and says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def open_task(self, task: Any, seed: int) -> int:
        self.asked.append((task.index, seed))
        return 50

    def run(self, function: Any, kinds: Any, states: Any, count: int, seed: Any, size: int) -> LabelledScenes:
        assert function is sample_scenes
        self.asked.append((len(kinds), list(states), count, seed, size))
        return LabelledScenes(
            images=np.full((count, 2, 4, 4, 3), 7, dtype=np.uint8),
            centres=np.zeros((count, 2, len(kinds), 2), np.float32),
            states=np.full((count, 8), 0.5, np.float32),
            positions=np.ones((count, len(kinds), 3), np.float32),
        )


@pytest.fixture
def simulator() -> StubSimulator:
    return StubSimulator()


def test_what_is_drawn_is_what_training_reads(simulator: StubSimulator, tmp_path: Path) -> None:
    tasks = load_tasks(find_suite("libero_object"), libero_package())
    options = CollectScenesOptions(tmp_path, init_states="20-22", seed=5)
    for task in tasks[2:4]:
        draw(options, 3, simulator, task)
    assert simulator.asked[:2] == [(2, 5), (11, [20, 21, 22], 3, [5, 2], 128)]
    scenes = load_scenes(tmp_path)
    assert scenes.images.shape == (6, 2, 4, 4, 3)
    assert scenes.centres.shape == (6, 2, 11, 2)
    assert scenes.kinds == list(KINDS)
    assert scenes.states.shape == (6, 8)
    # The hand is at (0.5, 0.5, 0.5), every object at (1, 1, 1).
    assert scenes.ways().shape == (6, 11, 3)
    assert (scenes.ways() == 0.5).all()
    # The basket is never asked for.
    assert [prompt.split()[1] for prompt in scenes.prompts("lift {}")][-2:] == ["salad", "tomato"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "libero_object-2-seed5.npz",
        "libero_object-3-seed5.npz",
    ]


def test_what_is_there_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(
        collect_scenes, "draw", lambda options, count, simulator, task: drawn.append((task.index, count))
    )
    (tmp_path / "libero_object-4-seed0.npz").touch()
    run(CollectScenesOptions(tmp_path, count=70, assets="stand-ins"))
    assert drawn == [(index, 7) for index in range(10) if index != 4]


def test_less_than_one_of_each_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LiberoError, match="--count: at least 10, one of each task"):
        run(CollectScenesOptions(tmp_path, count=9))


def test_scenes_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no scenes; collect_scenes.py makes them"):
        load_scenes(tmp_path)
    for name, kinds in (("a", ["milk", "basket"]), ("b", ["butter", "basket"])):
        np.savez(tmp_path / f"{name}.npz", images=np.zeros(1), centres=np.zeros(1), kinds=np.array(kinds))
    with pytest.raises(ValueError, match="files that label different kinds of objects"):
        load_scenes(tmp_path)
    (tmp_path / "b.npz").unlink()
    with pytest.raises(ValueError, match="scenes without states, positions: made by an earlier version"):
        load_scenes(tmp_path)
