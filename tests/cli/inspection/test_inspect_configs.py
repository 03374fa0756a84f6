"""Data configurations in scripts/inspect_dataset.py. Oracles: the keys and widths of the sets, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.experiment.data_config import load_data_config
from tests.data.lerobot.lerobot_sets import (
    MODALITY,
    set_modality,
    table,
    video,
)

Run = Callable[..., tuple[int, str, str]]


def test_what_a_data_configuration_reads_and_which_fit(run: Run, folder: Path) -> None:
    arm = {"single_arm": {"start": 0, "end": 1}}
    tasks = {"human.task_description": {"original_key": "task_index"}}
    set_modality(
        folder,
        state={**arm, "gripper": {"start": 0, "end": 1}},
        action={**arm, "gripper": {"start": 0, "end": 1}},
        video={"webcam": {"original_key": "observation.images.image"}},
        annotation=tasks,
    )
    status, out, _ = run(folder, "--data-config", "so100", "--json")
    told = json.loads(out)
    assert (status, told["configs"]["fit"]) == (0, ["so100"])
    assert told["reads"]["action"] == {
        **{"time_steps": 16, "limit": 32},
        "keys": {key: {"width": 1, "as": "min_max"} for key in ("action.single_arm", "action.gripper")},
    }
    assert told["reads"]["horizon_seconds"] == pytest.approx(0.8)
    (nearest, *_) = told["configs"]["nearest"]
    assert nearest["name"] == "so100_dualcam"
    assert set(nearest["missing"]) == {"video.front", "video.wrist"}
    status, out, _ = run(folder, "--data-config", "so100_dualcam")
    assert status == 1
    assert "2 faults" in out.splitlines()
    assert f"{folder / 'meta/modality.json'}: no 'video.front'; known: video.webcam" in out


def test_faults_of_what_a_configuration_does_not_read_do_not_count_with_it(run: Run, folder: Path) -> None:
    arm = {"single_arm": {"start": 0, "end": 1}, "gripper": {"start": 0, "end": 1}}
    cameras = {"webcam": {"original_key": "observation.images.image"}, "gone": {}}
    tasks = {"human.task_description": {"original_key": "task_index"}}
    set_modality(folder, state=arm, action=arm, video=cameras, annotation=tasks)
    status, out, _ = run(folder)
    assert status == 1
    assert "video.gone: there is no camera 'gone'" in out
    status, out, _ = run(folder, "--data-config", "so100")
    assert (status, out.splitlines()[-1]) == (0, "No faults: it can be trained on.")
    assert f"  not read with so100: {folder / 'meta/modality.json'}: video.gone: there is no camera" in out
    video(folder, 1).unlink()
    status, out, _ = run(folder, "--data-config", "so100")
    assert (status, "1 fault" in out.splitlines()) == (1, True)


def test_a_set_without_a_fitting_configuration_gets_one_that_fits(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "meta/modality.json").unlink()
    status, out, _ = run(folder)
    assert status == 0
    assert "  without meta/modality.json: the whole vectors are state.state and action.action" in out
    said = out.splitlines()
    start = said.index("      from gr00t.experiment.data_config import StandardDataConfig")
    source = [line[6:] for line in said[start:] if line.startswith("      ") or not line]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inspected_robot.py").write_text("\n".join(source))
    assert load_data_config("inspected_robot:MyRobot").state_keys == ["state.state"]
    status, out, _ = run(folder, "--data-config", "inspected_robot:MyRobot")
    assert (status, out.splitlines()[-1]) == (0, "No faults: it can be trained on.")


def test_zeros_in_place_of_a_rotation_are_a_fault_where_it_is_converted(run: Run, tmp_path: Path) -> None:
    config = load_data_config("single_panda_gripper")
    widths = {"end_effector_rotation_relative": 4, "base_rotation": 4, "gripper_qpos": 2, "base_motion": 4}
    rotations = {"end_effector_rotation_relative": "quaternion", "base_rotation": "quaternion"}
    modality: dict[str, Any] = {
        "annotation": {"human.action.task_description": {"original_key": "task_index"}}
    }
    numbers = {}
    for kind, keys in (("state", config.state_keys), ("action", config.action_keys)):
        modality[kind], end = {}, 0
        for key in keys:
            name = key.partition(".")[2]
            start, end = end, end + widths.get(name, 1 if "close" in name or "mode" in name else 3)
            entry: dict[str, Any] = {"start": start, "end": end}
            modality[kind][name] = entry | ({"rotation_type": rotations[name]} if name in rotations else {})
        numbers[kind] = np.random.default_rng(0).uniform(-1, 1, (6, end)).astype(np.float32)
    base = modality["state"]["base_rotation"]
    numbers["state"][4:, base["start"] : base["end"]] = 0
    cameras = [key.partition(".")[2] for key in config.video_keys]
    modality["video"] = {name: {"original_key": f"observation.images.{name}"} for name in cameras}
    frames = {name: np.zeros((6, 32, 32, 3), dtype=np.uint8) for name in cameras}
    writer = LeRobotWriter(tmp_path / "set", modality, fps=20)
    writer.add(Demonstration("go", numbers["state"], numbers["action"], frames, {}))
    assert run(tmp_path / "set")[0] == 0
    status, out, _ = run(tmp_path / "set", "--data-config", "single_panda_gripper")
    assert status == 1
    path = table(tmp_path / "set")
    told = f"{path}, row 4: state.base_rotation: a quaternion of zeros is no rotation as quaternion, and 1"
    assert f"  {told} more" in out.splitlines()
    del modality["state"]["base_rotation"]["rotation_type"]
    (tmp_path / "set/meta/modality.json").write_text(json.dumps(modality))
    status, out, _ = run(tmp_path / "set", "--data-config", "single_panda_gripper")
    assert status == 1
    assert "state.base_rotation: target rotation 'rotation_6d', but it has no rotation_type" in out


def test_more_numbers_than_the_model_takes_are_a_fault_of_the_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).random((3, 33), dtype=np.float32)
    whole = {"all": {"start": 0, "end": 33}}
    frames = {"image": np.zeros((3, 32, 32, 3), dtype=np.uint8)}
    writer = LeRobotWriter(tmp_path / "set", {**MODALITY, "state": whole, "action": whole}, fps=20)
    writer.add(Demonstration("go", rows, rows, frames, {}))
    monkeypatch.chdir(tmp_path)
    Path("wide_robot.py").write_text(
        "from gr00t.experiment.data_config import StandardDataConfig\n"
        "class Wide(StandardDataConfig):\n"
        "    video_keys = ['video.image']\n    state_keys = ['state.all']\n    action_keys = ['action.all']\n"
        "    language_keys = ['annotation.task']\n"
    )
    status, out, _ = run(tmp_path / "set", "--data-config", "wide_robot:Wide")
    assert status == 1
    assert (
        "action: 33 numbers per time step, the model takes at most 32: action.all 33; leave keys out" in out
    )


def test_configurations_that_cannot_be_used_are_told_without_a_traceback(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd_robot.py").write_text(
        "from gr00t.experiment.data_config import StandardDataConfig, ComposedModalityTransform, VideoCrop\n"
        "class Base(StandardDataConfig):\n"
        "    video_keys = ['video.image']\n    state_keys = ['state.x']\n    action_keys = ['action.x']\n"
        "    language_keys = ['annotation.task']\n"
        "class Empty(Base):\n"
        "    def transform(self):\n        return ComposedModalityTransform(transforms=[])\n"
        "class NoAction(Base):\n"
        "    def modality_config(self):\n"
        "        return {k: v for k, v in super().modality_config().items() if k != 'action'}\n"
        "class Crop(Base):\n"
        "    def transform(self):\n        return VideoCrop(apply_to=[], scale=3)\n"
    )
    for name, said in (
        (
            "Empty",
            "with data config odd_robot:Empty: the data config's transform must contain one GR00TTrans",
        ),
        (
            "NoAction",
            "with data config odd_robot:NoAction: the data config's modality_config() has no 'action'",
        ),
    ):
        status, out, _ = run(made, "--data-config", f"odd_robot:{name}")
        assert (status, said in out) == (1, True), out
    error = "error: VideoCrop: scale: Input should be less than or equal to 1, got 3\n"
    assert run(made, "--data-config", "odd_robot:Crop") == (2, "", error)
