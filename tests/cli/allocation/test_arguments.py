"""The flags of gr00t-allocate. Oracle: the texts of what is refused, before any weight is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.allocation.arguments import AllocateArguments, AllocationTask, check_arguments
from gr00t.cli.errors import UsageError
from gr00t.eval.allocation.budget import AllocationError
from gr00t.files.output_folder import OutputError
from gr00t.quantization.calibration.record import UnfinishedCalibrationError, write_record

RECORD = {"data_config": "a:B", "embodiment_tag": "gr1", "denoising_steps": 6, "dtype": "bfloat16"}


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    write_record(tmp_path / "packs", RECORD, complete=True)
    return tmp_path / "packs"


def checked(packs: Path, environ: dict[str, str] | None = None, **flags: Any) -> AllocationTask:
    given = {"budget": "4.25", "packdir": packs, "synthetic": 2, "output": packs.parent / "out", **flags}
    return check_arguments(AllocateArguments("somewhere/a-checkpoint", **given), environ or {})


def test_what_the_flags_do_not_say_the_calibration_does(packs):
    task = checked(packs)
    filled = task.arguments
    assert (filled.data_config, filled.embodiment_tag, filled.denoising_steps) == ("a:B", "gr1", 6)
    assert (task.calibrated_dtype, task.name) == ("bfloat16", "allocated-4.25")
    assert (task.recipe.name, task.config.calibration_steps, task.config.smoothing) == ("recommended", 0, 0.5)
    flags = {"data_config": "c", "denoising_steps": 2, "name": "mine"}
    assert dataclasses.asdict(checked(packs, **flags).arguments).items() >= flags.items()


def test_settings_may_be_those_that_are_exported(packs):
    environ = {
        "GR00T_DUQUANT_CALIB_STEPS": "0",
        "GR00T_DUQUANT_BLOCK": "8",
        "GR00T_DUQUANT_PACKDIR": str(packs),
    }
    task = checked(packs, environ, recipe="environment", packdir=None)
    assert (task.config.block_in, task.packdir) == (8, packs)
    assert checked(packs, environ, packdir=None).config.block_in == 16


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"budget": "870"}, "bytes need their unit, as 870KB"),
        ({"synthetic": None}, "give one of --observations FILE, --libero SUITE and --synthetic N"),
        ({"libero": "libero_object"}, "give one of --observations FILE, --libero SUITE and --synthetic N"),
        ({"synthetic": None, "observations": Path("nowhere")}, "--observations nowhere: no such file"),
        ({"bits": (4, 9)}, "--bits 4 9: expected different numbers from 2 to 8"),
        ({"bits": (4, 4)}, "--bits 4 4: expected different numbers from 2 to 8"),
        ({"bits": ()}, "expected different numbers from 2 to 8"),
        ({"requests": 0}, "--requests 0: expected at least 1"),
        ({"executed": -1}, "--executed -1: expected at least 1"),
        ({"seed": -1}, "--seed -1: expected at least 0"),
        ({"name": "a/b"}, "--name 'a/b': expected letters, digits and"),
        ({"recipe": "recommend"}, r"unknown arm 'recommend': did you mean recommended\?"),
        ({"recipe": "w4a8"}, "--recipe w4a8: its static activation scales .* as recommended$"),
        ({"recipe": "expert"}, "--recipe expert: expected settings of a quantization"),
        ({"packdir": None}, "no recorded inputs to round by: give --packdir FOLDER; gr00t-calibrate fills"),
        ({"packdir": Path("nowhere")}, "--packdir nowhere: no such folder; gr00t-calibrate fills one"),
    ],
)
def test_what_cannot_be_done_is_refused(packs, flags, message):
    with pytest.raises((UsageError, AllocationError, ValueError), match=message):
        checked(packs, **flags)
    assert not (packs.parent / "out").exists()


def test_a_dry_run_allocates_nothing(packs):
    with pytest.raises(UsageError, match="asks for a list of layers"):
        checked(packs, {"GR00T_DUQUANT_DRYRUN": "1"}, recipe="environment")


def test_packs_that_nobody_calibrated_are_refused(packs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no calibration\.json in there, so it was not calibrated"):
        checked(packs, packdir=tmp_path / "empty")
    (packs / "calibration.json").write_text(json.dumps({"complete": False}))
    with pytest.raises(UnfinishedCalibrationError, match="its calibration has not ended"):
        checked(packs)


def test_a_folder_that_cannot_be_written_is_said_at_once(packs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"no results can be written to .*file/out .*: --output FOLDER"):
        checked(packs, output=tmp_path / "file" / "out")
