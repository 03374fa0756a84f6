"""What is refused before weights are read, in one line. Oracle: the texts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.cli.checks.drawing import check_drawing
from gr00t.cli.errors import UsageError
from gr00t.cli.gate import servers
from gr00t.cli.gate.arguments import DriftArguments, check_first
from gr00t.cli.gate.arms import settle_arms
from gr00t.cli.gate.material import MaterialFinder, held_out_episodes
from gr00t.eval.arms.arms import ArmError
from gr00t.eval.drift.chunks import DriftError
from gr00t.libero.tasks.suites import LiberoError
from gr00t.model.artefact import export_artefact
from gr00t.serving.client import NoServerError
from gr00t.serving.observation_file import EPISODE, ObservationFileError, write_observations
from tests.model.small_artefact import quantized, variables
from tests.serving.socket_helpers import free_port

FILE, FOLDER = Path("file"), Path("folder")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "give one of --observations FILE, --data FOLDER and --libero SUITE to judge by"),
        ({"observations": FILE, "data": FOLDER}, "give one of --observations FILE, --data FOLDER and"),
        ({"observations": FILE, "arms": "w4a8"}, "--model: name the checkpoint, in floating point, that"),
        ({"observations": FILE, "model": "m"}, "--arms: name what to compare, such as --arms w4a8"),
        ({"data": FOLDER}, "--data without --arms compares predicted with recorded actions: of which"),
        ({"data": FOLDER, "model": "m", "arms": "w4a8", "per_episode": 3}, "--per-episode goes with --obs"),
        (
            {"observations": FILE, "model": "m", "arms": "w4a8", "episodes": "3"},
            "--episodes goes with --data",
        ),
        ({"observations": FILE, "executed": 0}, "--executed 0: expected at least 1"),
        ({"observations": FILE, "seed": -1}, "--seed -1: expected at least 0"),
        (
            {"observations": FILE, "model": "m", "arms": "w4a8", "plot": Path("nowhere/a.png")},
            "--plot nowhere/a.png: there is no such folder",
        ),
        (
            {"observations": FILE, "model": "m", "arms": "w4a8", "plot": Path("a.xyz")},
            "--plot a.xyz: expected a name that ends with one of ",
        ),
        ({"data": FOLDER, "model": "m", "judged": 9}, "--judged goes with --arms: without them nothing is j"),
        ({"data": FOLDER, "model": "m", "requests": 9}, "--requests goes with --arms: without them nothing"),
        ({"data": FOLDER, "model": "m", "gripper": ("x",)}, "--gripper goes with --arms: without them noth"),
        ({"data": FOLDER, "model": "m", "reference": "bfloat16"}, "--reference goes with --arms: without"),
        ({"data": FOLDER, "model": "m", "calibration": FILE}, "--calibration goes with --arms: without th"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(told)}"):
        check_first(DriftArguments(**flags))


@pytest.mark.parametrize(
    ("arms", "kind", "told"),
    [
        ("recomended", ArmError, "unknown arm 'recomended': did you mean recommended?"),
        (
            "w4a8,replay",
            UsageError,
            "--arms: replay acts in a simulator and answers no observation: leav",
        ),
        ("w4a8,w4a8", ArmError, "--arms 'w4a8,w4a8': two arms named 'w4a8'"),
        (
            "w4a8,bfloat16=rtn",
            UsageError,
            "--arms: bfloat16 is the row of the policy as it is: call the arm otherwise",
        ),
        (
            "environment",
            UsageError,
            "--arms: environment would quantize nothing: no GR00T_DUQUANT_*",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(arms: str, kind: type, told: str, checkpoint: Path) -> None:
    with pytest.raises(kind, match=f"^{re.escape(told)}"):
        settle_arms(DriftArguments(arms=arms), str(checkpoint), {})


def test_a_server_that_is_not_there_is_found_before_anything_is_loaded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_WAIT_S", 0.1)
    port = free_port()
    with pytest.raises(NoServerError, match=f"localhost:{port}"):
        settle_arms(DriftArguments(arms=f"rtn,localhost:{port}"), str(checkpoint), {})


def test_a_folder_and_a_place_that_cannot_be_written_to_are_no_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "drift.png"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"drift\.png: expected a file, and this is a folder$"):
        check_drawing(folder, "--plot")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match=r"a\.png: nothing can be written to this folder$"):
        check_drawing(tmp_path / "a.png", "--plot")


def test_settings_that_turn_nothing_on_are_no_arm(checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[duquant]\nDEBUG = 1\n")
    with pytest.raises(UsageError, match=r"^--arms: mine would quantize nothing: GR00T_DUQUANT_DEBUG alone"):
        settle_arms(DriftArguments(arms=str(recipe)), str(checkpoint), {})


def test_a_quantized_checkpoint_is_no_base(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    model, report = quantized(checkpoint, variables(WBITS_DEFAULT="4", CALIB_STEPS="0"))
    export_artefact(model, report, checkpoint, folder)
    with pytest.raises(UsageError, match=r"is quantized already; give what it was exported from"):
        settle_arms(DriftArguments(arms="w4a8"), str(folder), {})


def written(path: Path, *episodes: int) -> Path:
    write_observations(
        path, [{"x": np.asarray([number]), EPISODE: episode} for number, episode in enumerate(episodes)]
    )
    return path


@pytest.mark.parametrize(
    ("episodes", "fewest", "told"),
    [
        (
            (0, 0, 0),
            0,
            "file file: 3 observations of 1 episode; an interval over episodes takes at",
        ),
        (
            (0, 0, 1, 1),
            1,
            "0 observations to calibrate by (other episodes of file file), at least 1 are needed",
        ),
        (
            (0, 0, 1, 2),
            4,
            "2 observations to calibrate by (other episodes of file file), at least 4 are needed",
        ),
    ],
)
def test_too_few_observations_are_refused(
    episodes: tuple[int, ...], fewest: int, told: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "file", *episodes)
    with pytest.raises(UsageError, match=f"^{re.escape(told)}"):
        MaterialFinder(DriftArguments(observations=path, judged=2), fewest, {})


def test_a_damaged_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "file", 0, 1)
    path.write_bytes(b"\xc1" + path.read_bytes())
    with pytest.raises(ObservationFileError, match=r"after 0 whole observations"):
        MaterialFinder(DriftArguments(observations=path), 0, {})
    with pytest.raises(FileNotFoundError):
        MaterialFinder(DriftArguments(observations=tmp_path / "none"), 0, {})


def test_the_same_observations_do_not_calibrate_and_judge(tmp_path: Path) -> None:
    path = written(tmp_path / "file", 0, 1)
    arguments = DriftArguments(observations=path, calibration=path)
    with pytest.raises(DriftError, match=r"^2 of the observations to judge by are among those to calibrate"):
        MaterialFinder(arguments, 1, {})
    # Nothing is calibrated: nothing of it is read.
    assert MaterialFinder(arguments, 0, {}) is not None


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(LiberoError, match=r"did you mean libero_object"):
        MaterialFinder(DriftArguments(libero="libero_objekt"), 0, {})


def test_the_last_ten_episodes_judge_and_at_most_half() -> None:
    assert held_out_episodes("", range(40), "set") == list(range(30, 40))
    assert held_out_episodes("", [1, 3, 5, 7, 9], "set") == [7, 9]
    assert held_out_episodes("3-4,9", range(40), "set") == [3, 4, 9]
    with pytest.raises(UsageError, match=r"^set: of 3 episodes none can be held out; name at least two"):
        held_out_episodes("", range(3), "set")
    with pytest.raises(UsageError, match=r"^--episodes 5: set has no episode 5$"):
        held_out_episodes("5", [1, 9], "set")
    with pytest.raises(UsageError, match=r"9-12 is not within 0-9 of set$"):
        held_out_episodes("9-12", range(10), "set")
