"""What a calibration is asked for, checked before anything is loaded. Oracle: folders and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gr00t.cli.calibration import program
from gr00t.cli.calibration.arguments import CalibrateArguments, check_arguments
from gr00t.model.quantized_layers import SCOPES
from tests.cli.test_calibrate import settings


@pytest.mark.parametrize(("steps", "requests"), [("0", 128), ("8", 128), ("200", 200)])
def test_at_least_128_requests_and_all_calib_steps_are_used_by_default(tmp_path, steps, requests):
    (tmp_path / "observations").touch()
    arguments = CalibrateArguments("somebody/a-policy", observations=tmp_path / "observations")
    assert check_arguments(arguments, settings(tmp_path, CALIB_STEPS=steps)).requests == requests


def test_the_scope_says_which_layers_are_calibrated(tmp_path):
    arguments = CalibrateArguments("somebody/a-policy", synthetic=2, scope="wide")
    config = check_arguments(arguments, settings(tmp_path)).config
    assert config.exclude.pattern == SCOPES["wide"]["EXCLUDE"]


def test_the_folder_of_the_saved_observations_is_made_before_they_are_collected(tmp_path):
    arguments = CalibrateArguments("somebody/a-policy", synthetic=2, save=tmp_path / "runs" / "file")
    check_arguments(arguments, settings(tmp_path))
    assert (tmp_path / "runs").is_dir()


def test_the_flag_wins_over_the_variable(tmp_path):
    arguments = CalibrateArguments("somebody/a-policy", synthetic=2, packdir=tmp_path / "flag")
    todo = check_arguments(arguments, settings(tmp_path / "variable"))
    assert todo.packdir == todo.config.pack_dir == tmp_path / "flag"
    assert not (tmp_path / "variable").exists()


def test_an_exported_model_is_no_packdir_which_is_said_before_anything_is_calibrated(
    checkpoint: Path, tmp_path: Path
) -> None:
    # Oracle: the folder, in which nothing is new.
    (tmp_path / "duquant.safetensors").touch()
    arguments = CalibrateArguments(str(checkpoint), synthetic=2, device="cpu", denoising_steps=2)
    with pytest.raises(ValueError, match="is the folder of an exported model, which packs would damage"):
        program.calibrate(arguments, settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["duquant.safetensors"]
