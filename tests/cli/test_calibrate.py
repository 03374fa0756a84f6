"""scripts/calibrate.py on a small random checkpoint. Oracle: a fresh policy, answering like the calibrated.

Its parts have tests of their own: recording, observation file, and rollouts.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.cli.calibrate import table
from gr00t.cli.calibration import program as calibration
from gr00t.cli.calibration import requests as asked
from gr00t.cli.errors import UsageError
from gr00t.data.errors import ObservationError
from gr00t.model.artefact import export_artefact
from gr00t.model.policy import Gr00tPolicy
from gr00t.quantization import DuQuantSelectionError
from gr00t.quantization.calibration.record import UnfinishedCalibrationError
from gr00t.serving.observation_file import ObservationFileError, read_observations, write_observations
from gr00t.serving.wires import n1_5 as wire
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.testing.synthetic import synthetic_observation
from tests.model.small_artefact import quantized
from tests.shell import REPO

LAYERS = 2 * 7 + 4 * 2


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return calibration


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@dataclasses.dataclass
class Done:
    """A calibration by four random observations, two of them replayed."""

    policy: Gr00tPolicy
    report: dict[str, Any]
    packs: Path
    saved: Path


@pytest.fixture(scope="module")
def done(program: ModuleType, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("calibrated")
    packs, saved = folder / "packs", folder / "observations"
    arguments = program.CalibrateArguments(
        str(checkpoint), synthetic=4, save=saved, device="cpu", denoising_steps=2
    )
    return Done(*program.calibrate(arguments, settings(packs)), packs, saved)


def settings(packs: Path, **others: str) -> dict[str, str]:
    """The variables of a calibration and of the server after it."""
    chosen = {"CALIB_STEPS": "2", "LS": "0.5", "PACKDIR": str(packs), **others}
    return {f"GR00T_DUQUANT_{name}": text for name, text in chosen.items()}


def serve(checkpoint: Path, environ: dict[str, str]) -> Gr00tPolicy:
    """Load the policy as the server does."""
    data = LiberoDataConfig()
    return Gr00tPolicy(
        checkpoint, "new_embodiment", data.modality_config(), data.transform(), 2, "cpu", environ=environ
    )


def actions(policy: Gr00tPolicy, seed: int = 99) -> np.ndarray:
    """Answer an observation that was not calibrated by."""
    observation = synthetic_observation(policy.modality_config, policy.metadata, "open the drawer", seed)
    return np.concatenate(list(policy.get_action(observation, seeds=seed).values()), axis=-1)


# What a calibration leaves


def test_a_fresh_policy_restores_every_layer_and_answers_bit_for_bit_alike(done, checkpoint, caplog):
    caplog.set_level(logging.INFO)
    fresh = serve(checkpoint, settings(done.packs))
    report = fresh.quantization_report()
    assert report["layers_from_packs"] == report["layers_informed"] == report["layers_quantized"] == LAYERS
    assert report["calibrating"] is False
    assert {layer["activation_scale"] for layer in report["layers"].values()} == {
        "static per input channel, folded"
    }
    assert np.array_equal(actions(fresh), actions(done.policy))
    assert f"by 4 requests (synthetic, a smoke test); {LAYERS} of {LAYERS} layers use" in caplog.text
    assert "has no effect" not in caplog.text


def test_the_static_scales_are_not_those_of_served_requests(done, checkpoint):
    fresh = serve(checkpoint, settings(done.packs))
    before = {name: layer.act_scale.clone() for name, layer in fresh.quantization.layers.items()}
    for seed in range(3):
        actions(fresh, seed)
    assert all(torch.equal(layer.act_scale, before[n]) for n, layer in fresh.quantization.layers.items())


def test_smoothing_takes_effect_by_the_statistics(done, program, checkpoint, tmp_path):
    """LS=0 by the same observations gives other answers, and has no diagonal."""
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=done.saved, requests=4, device="cpu", denoising_steps=2
    )
    plain = program.calibrate(arguments, settings(tmp_path, LS="0"))[0]
    assert all(layer.transforms.smoothing is None for layer in plain.quantization.layers.values())
    for layer in done.policy.quantization.layers.values():
        smoothing = layer.transforms.smoothing
        assert smoothing.amax() / smoothing.amin() > 1.2  # 1.56 to 9.2 measured
    assert not np.array_equal(actions(plain), actions(done.policy))


def test_another_block_is_rebuilt_by_the_same_statistics(done, checkpoint, tmp_path, caplog):
    copy = shutil.copytree(done.packs, tmp_path / "packs")
    rebuilt = serve(checkpoint, settings(copy, BLOCK="32", CALIB_STEPS="0"))
    report = rebuilt.quantization_report()
    assert (report["layers_from_packs"], report["layers_informed"]) == (0, LAYERS)
    for name, layer in rebuilt.quantization.layers.items():
        # The diagonal depends on peaks and weights alone, not on the block.
        before = done.policy.quantization.layers[name].transforms
        assert torch.equal(layer.transforms.smoothing, before.smoothing)
    assert "lack" not in caplog.text


def test_the_saved_observations_give_the_same_packs_again(done, program, checkpoint, tmp_path):
    copy = shutil.copytree(done.packs, tmp_path / "packs")
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=done.saved, requests=4, device="cpu", denoising_steps=2
    )
    policy, _ = program.calibrate(arguments, settings(copy))
    assert policy.quantization.packed == LAYERS
    assert np.array_equal(actions(policy), actions(done.policy))


def test_the_report_counts_and_measures(done, program):
    report = done.report
    sizes = [pack.stat().st_size for pack in done.packs.glob("*.safetensors")]
    assert [report[key] for key in ("layers", "informed", "feedback", "static")] == [LAYERS] * 4
    assert report["pack_bytes"] == sum(sizes)
    assert {kind: row["layers"] for kind, row in report["kinds"].items()} == {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"), 2),
        **dict.fromkeys(("up_proj", "down_proj"), 6),
    }
    assert table(report).splitlines()[-2].split() == [
        "all", "22", "22", "22", "22", f"{sum(sizes):,}"
    ]  # fmt: skip
    assert 2e8 < report["peak_bytes"] < 2e10  # torch alone is more
    assert table(report).endswith(f" s; peak memory {report['peak_bytes'] / 1e9:.2f} GB")


def test_the_record_says_by_what(done):
    record = json.loads((done.packs / "calibration.json").read_text())
    assert record["complete"] is True
    assert record["source"] == {"kind": "synthetic, a smoke test"}
    assert (record["requests"], record["seed"], record["layers"]) == (4, 0, LAYERS)
    assert record["input_rows"] >= 4
    assert (record["denoising_steps"], record["dtype"]) == (2, "bfloat16")
    assert record["settings"]["GR00T_DUQUANT_LS"] == "0.5"


# What goes wrong on the way


def test_a_calibration_that_is_killed_leaves_no_folder_to_serve_from(
    program, checkpoint, tmp_path, monkeypatch
):
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "replay", die)
    arguments = program.CalibrateArguments(str(checkpoint), synthetic=2, device="cpu", denoising_steps=1)
    with pytest.raises(KeyboardInterrupt):
        program.calibrate(arguments, settings(tmp_path))
    assert len(list(tmp_path.glob("*.safetensors"))) == LAYERS
    with pytest.raises(UnfinishedCalibrationError, match="its calibration has not ended, or still runs"):
        serve(checkpoint, settings(tmp_path))


def test_packs_that_cannot_be_written_are_an_error(program, checkpoint, tmp_path):
    (tmp_path / "action_head.layers.0.mlp.up_proj.safetensors").mkdir()
    arguments = program.CalibrateArguments(str(checkpoint), synthetic=2, device="cpu", denoising_steps=1)
    with pytest.raises(OSError, match="is not what was calibrated; is the disk full"):
        program.calibrate(arguments, settings(tmp_path))
    assert json.loads((tmp_path / "calibration.json").read_text())["complete"] is False


def test_observations_that_do_not_fit_leave_the_folder_alone(done, program, checkpoint, tmp_path):
    good = list(read_observations(done.saved))
    bad = tmp_path / "observations"
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=bad, requests=2, device="cpu", denoising_steps=1
    )
    packs = tmp_path / "packs"
    write_observations(bad, [good[0], {**good[1], "state.x": np.array([[np.nan]])}])
    with pytest.raises(ObservationError, match=r"observation 1: state\.x: expected finite numbers"):
        program.calibrate(arguments, settings(packs))
    bad.write_bytes(done.saved.read_bytes()[: len(wire.pack(good[0])) + 10])
    with pytest.raises(ObservationFileError, match="after 1 whole observations: the file ends within"):
        program.calibrate(arguments, settings(packs))
    write_observations(bad, good[:1])
    expected = "1 observations are there, 2 are to be used; give --requests 1, or more observations"
    with pytest.raises(UsageError, match=expected):
        program.calibrate(arguments, settings(packs))
    with pytest.raises(DuQuantSelectionError, match="no Linear is named 'x'"):
        program.calibrate(arguments, settings(packs, LAYERS="x"))
    assert list(packs.iterdir()) == []


def loud_at(*indices: int) -> Callable[..., Any]:
    """Answer as the program does, but for requests in which one layer is called with 1e4 times its input."""
    answer = asked.answer

    def answer_loudly(policy: Gr00tPolicy, observation: Any, index: int, seed: int) -> Any:
        layer = policy.model.get_submodule("action_head.layers.0.mlp.up_proj")
        factor = 1e4 if index in indices else 1.0
        with layer.register_forward_pre_hook(lambda _, args: (args[0] * factor,), prepend=True):
            return answer(policy, observation, index, seed)

    return answer_loudly


@pytest.mark.parametrize("absurd", [0, 1])
def test_an_absurd_observation_is_left_out_and_the_next_one_used(
    done, program, checkpoint, tmp_path, monkeypatch, caplog, absurd
):
    """Oracle: the scales of the calibration without one, which lie within a factor of two."""
    monkeypatch.setattr(asked, "answer", loud_at(absurd))
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=done.saved, requests=3, device="cpu", denoising_steps=2
    )
    policy, report = program.calibrate(arguments, settings(tmp_path))
    assert (report["requests"], report["static"]) == (3, LAYERS)
    assert json.loads((tmp_path / "calibration.json").read_text())["requests_left_out"] == 1
    assert "is held apart: |x| up to" in caplog.text
    for name, layer in policy.quantization.layers.items():
        ratio = layer.act_scale.amax() / done.policy.quantization.layers[name].act_scale.amax()
        assert 0.5 < ratio < 2, name


def test_too_few_that_can_be_believed_are_an_error_and_the_folder_is_left_alone(
    done, program, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(asked, "answer", loud_at(1))
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=done.saved, requests=4, device="cpu", denoising_steps=1
    )
    expected = (
        "3 observations are there and 1 more are left out (see above), 4 are to be used; give --requests 3, "
        "or more observations"
    )
    with pytest.raises(UsageError) as caught:
        program.calibrate(arguments, settings(tmp_path))
    assert str(caught.value) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "variables", "message"),
    [
        (
            {},
            {"ENABLE": "0"},
            "nothing to calibrate, DuQuant is not enabled: GR00T_DUQUANT_ENABLE=0",
        ),
        (
            {},
            {"DRYRUN": "1"},
            "GR00T_DUQUANT_DRYRUN=1 asks for a list of layers; unset it to calibrate",
        ),
        ({}, {"PACKDIR": ""}, "nowhere to write: set GR00T_DUQUANT_PACKDIR or give --packdir"),
        (
            {"synthetic": None},
            {},
            "give one of --libero SUITE, --observations FILE and --synthetic N",
        ),
        (
            {"libero": "libero_goal"},
            {},
            "give one of --libero SUITE, --observations FILE and --synthetic N",
        ),
        (
            {"synthetic": 1},
            {},
            "1 requests do not fix static scales: GR00T_DUQUANT_CALIB_STEPS=2 asks for at least 2",
        ),
        (
            {"synthetic": 0},
            {"CALIB_STEPS": "0"},
            "--requests and --synthetic: expected at least 1",
        ),
        ({"synthetic": None, "observations": Path("none")}, {}, "--observations none: no such file"),
        ({"prompts": ()}, {}, "--prompts: give at least one instruction"),
    ],
)
def test_requests_that_cannot_be_met_are_refused_before_the_weights_are_read(
    program, tmp_path, flags, variables, message
):
    arguments = program.CalibrateArguments(**{"model_path": "no/checkpoint", "synthetic": 4, **flags})
    with pytest.raises(UsageError) as caught:
        program.calibrate(arguments, settings(tmp_path / "packs", **variables))
    assert str(caught.value) == message
    assert not (tmp_path / "packs").exists()


def test_an_artefact_is_not_calibrated_again(program, checkpoint, tmp_path):
    model, report = quantized(checkpoint, settings(tmp_path / "packs", CALIB_STEPS="0"))
    export_artefact(model, report, checkpoint, tmp_path / "artefact", checkpoint="the/original")
    arguments = program.CalibrateArguments(str(tmp_path / "artefact"), synthetic=2)
    expected = "artefact is quantized already; calibrate what it was exported from: the/original"
    with pytest.raises(UsageError, match=expected):
        program.check_arguments(arguments, settings(tmp_path / "packs"))


# As people run it


def run(checkpoint: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_DUQUANT_")}
    return subprocess.run(
        [sys.executable, REPO / "scripts" / "calibrate.py", "--model-path", str(checkpoint), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO,
        env={**environ, **variables, "PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"},
        check=False,
    )


def test_the_program_ends_with_its_report_as_json(checkpoint, tmp_path):
    flags = ["--synthetic", "2", "--denoising_steps", "1", "--device", "cpu", "--packdir", str(tmp_path)]
    ran = run(checkpoint, *flags, GR00T_DUQUANT_CALIB_STEPS="0")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert (report["informed"], report["static"], report["requests"]) == (LAYERS, 0, 2)
    assert "SYNTHETIC observations: a smoke test." in ran.stderr
    assert "recording: 100%" in ran.stderr


def test_wrong_flags_end_it_with_status_2_and_one_line(checkpoint):
    ran = run(checkpoint, "--synthetic", "2")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "error: nothing to calibrate, DuQuant is not enabled: no GR00T_DUQUANT_* variable is set; set "
        "GR00T_DUQUANT_WBITS_DEFAULT=4\n"
    )


@pytest.mark.libero
def test_rollouts_calibrate_by_the_last_initial_state(program, checkpoint, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    arguments = program.CalibrateArguments(
        str(checkpoint), libero="object", tasks="2", requests=2, max_steps=16, assets="stand-ins",
        device="cpu", denoising_steps=1,
    )  # fmt: skip
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **settings(tmp_path / "packs")}
    _, report = program.calibrate(arguments, environ)
    assert report["informed"] == report["static"] == LAYERS
    source = json.loads((tmp_path / "packs" / "calibration.json").read_text())["source"]
    assert source["init_states_by_task"] == {"2": [49]}
    assert (source["suite"], source["assets"], source["max_steps"]) == ("libero_object", "stand-ins", 16)
    assert "initial states 49; evaluations start at 0: keep their --trials at most 49" in caplog.text


def test_static_scales_are_fixed_by_requests_from_the_first_to_the_last():
    """Rollouts give an episode's observations in order: the first quarter would be all beginnings."""
    assert asked.spread(list(range(128)), 4) == [0, 32, 64, 96]
    assert asked.spread([5, 6, 7], 3) == [5, 6, 7]
    assert asked.spread([5, 6], 3) == [5, 6]
    assert asked.spread([5, 6], 0) == []


def test_few_rows_to_round_by_are_told_with_their_number(done, program, checkpoint, tmp_path, caplog):
    arguments = program.CalibrateArguments(
        str(checkpoint), observations=done.saved, requests=1, device="cpu", denoising_steps=1
    )
    caplog.set_level("WARNING")
    program.calibrate(arguments, settings(tmp_path, CALIB_STEPS="0"))
    rows = json.loads((tmp_path / "calibration.json").read_text())["input_rows"]
    assert 0 < rows < 512
    assert f"Weights are rounded by {rows} rows of a layer's inputs, 4096 are wanted" in caplog.text
