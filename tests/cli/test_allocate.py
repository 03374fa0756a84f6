"""gr00t-allocate on a small random checkpoint, from packs to a recipe.

Oracles: the same run that nobody interrupted; what a server makes of the recipe; single layers quantized by
`quantize_`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gr00t.cli.allocate import run
from gr00t.cli.allocation import program
from gr00t.cli.allocation.arguments import AllocateArguments, check_arguments
from gr00t.cli.allocation.trial import TrialPolicy
from gr00t.cli.calibration.arguments import CalibrateArguments
from gr00t.cli.calibration.program import calibrate
from gr00t.cli.errors import UsageError
from gr00t.data.errors import ObservationError
from gr00t.eval.allocation.budget import AllocationError
from gr00t.eval.allocation.outcome import Outcome
from gr00t.eval.arms.recipes import load_recipe
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import IntFormat, quantize_
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ
from gr00t.serving.observation_file import read_observations, write_observations
from gr00t.testing.random_checkpoint import write_random_checkpoint

LAYERS, BITS = 2 * 7 + 4 * 2, (2, 8)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A checkpoint, packs of it in bfloat16, and observations."""
    folder = tmp_path_factory.mktemp("calibrated")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    saved, packs = folder / "observations", folder / "packs"
    asked = CalibrateArguments(
        str(checkpoint), synthetic=4, save=saved, packdir=packs, device="cpu", denoising_steps=1
    )
    calibrate(asked, to_environ({"CALIB_STEPS": "0", "LS": "0.5"}))
    return checkpoint, packs, saved


def flags(calibrated: tuple[Path, Path, Path], output: Path, **others: Any) -> AllocateArguments:
    checkpoint, packs, saved = calibrated
    given = {"packdir": packs, "observations": saved, "output": output, "requests": 3, "budget": "5"}
    return AllocateArguments(str(checkpoint), **{**given, "bits": BITS, "device": "cpu", **others})


def allocated(arguments: AllocateArguments) -> Outcome:
    return program.allocate_bits(check_arguments(arguments, {}), {})


@pytest.fixture(scope="module")
def done(calibrated, tmp_path_factory) -> tuple[Outcome, Path]:
    output = tmp_path_factory.mktemp("allocated")
    return allocated(flags(calibrated, output)), output


def test_the_recipe_is_what_was_chosen_and_within_the_budget(done):
    outcome, output = done
    chosen = outcome.chosen.allocation
    recipe = load_recipe(output / "allocated-5.toml")
    config = DuQuantConfig.from_environ(to_environ(recipe.settings))
    bits = {name: config.scheme.spec_for(16, 16, name).weight.bits for name in outcome.shapes}
    assert bits == chosen.bits
    assert len(bits) == LAYERS
    assert chosen.stored <= outcome.budget_bytes == int(5 * outcome.weights // 8)
    assert (config.calibration_steps, config.smoothing, recipe.calibrate) == (0, 0.5, True)
    assert len(set(bits.values())) > 1


def test_bits_and_bytes_are_the_librarys_own(done, calibrated):
    """Oracle: the buffers of the layers that the recipe makes."""
    outcome, output = done
    policy = program.load_by_flags(
        flags(calibrated, output, denoising_steps=1), str(calibrated[0]), to_environ({"ENABLE": "0"})
    )
    config = DuQuantConfig.from_environ(to_environ(load_recipe(output / "allocated-5.toml").settings))
    report = quantize_(policy.model, config.scheme, DEFAULTS.layer_filter)
    held = {
        name: sum(
            buffer.nbytes
            for part, buffer in layer.packed_state().items()
            if part in ("codes", "block_scale", "row_scale")
        )
        for name, layer in report.layers.items()
    }
    assert held == {name: choice.stored for name, choice in outcome.chosen.allocation.chosen.items()}


def test_the_whole_is_measured_and_stands_beside_uniform_bits(done):
    outcome, output = done
    assert [measured.what for measured in outcome.uniform] == ["W2 everywhere", "W8 everywhere"]
    assert 0 < outcome.uniform[1].error < outcome.uniform[0].error
    text = (output / "allocated-5.md").read_text()
    assert f"| {outcome.chosen.error:.4f} |" in text
    data = json.loads((output / "allocated-5.json").read_text())
    assert data["chosen"]["measured"] == outcome.chosen.error
    assert (output / "allocated-5.png").read_bytes().startswith(b"\x89PNG")
    lines = (output / "allocated-5.toml").read_text().splitlines()
    assert lines[1].startswith(f"# err {outcome.chosen.error:.4f} of the actions")


class KilledError(Exception):
    """Stands for a signal."""


def test_a_run_that_was_killed_goes_on_to_the_same_end(done, calibrated, tmp_path, monkeypatch):
    """Oracle: the unbroken run; and no measurement is made twice."""
    calls: list[dict[str, int]] = []
    answers = TrialPolicy.answers

    def until_killed(self: TrialPolicy, bits: dict[str, int]) -> Any:
        if len(calls) in (5, 40):
            calls.append({})
            raise KilledError
        calls.append(dict(bits))
        return answers(self, bits)

    monkeypatch.setattr(TrialPolicy, "answers", until_killed)
    for _ in range(2):
        with pytest.raises(KilledError):
            allocated(flags(calibrated, tmp_path))
        assert not list(tmp_path.glob("allocated*"))
    outcome = allocated(flags(calibrated, tmp_path))
    assert outcome.to_dict() == {**done[0].to_dict(), "machine": outcome.machine}
    for ending in ("toml", "json", "md"):
        one, other = ((folder / f"allocated-5.{ending}").read_text() for folder in (tmp_path, done[1]))
        assert one.replace(outcome.machine, "") == other.replace(done[0].machine, "")
    measured = [tuple(bits.items()) for bits in calls if bits]
    assert len(measured) == len(set(measured)) == LAYERS * len(BITS) + 3


def test_another_budget_measures_the_whole_alone(done, calibrated, monkeypatch):
    outcome, output = done
    asked = []
    answers = TrialPolicy.answers
    monkeypatch.setattr(
        TrialPolicy, "answers", lambda self, bits: asked.append(len(bits)) or answers(self, bits)
    )
    other = allocated(flags(calibrated, output, budget="4", name="less"))
    assert other.chosen.allocation.stored < outcome.chosen.allocation.stored
    assert asked == [0, LAYERS]
    assert other.chosen.allocation.predicted > outcome.chosen.allocation.predicted


def test_a_single_layer_is_what_quantize_makes_of_it(done, calibrated):
    """Oracle: `quantize_` of that layer alone, by the statistics in the packs."""
    _, output = done
    arguments = check_arguments(flags(calibrated, output), {}).arguments
    checkpoint, packs, saved = calibrated
    policy = program.load_by_flags(arguments, str(checkpoint), to_environ({"ENABLE": "0"}))
    observation = next(read_observations(saved))
    name = "action_head.layers.1.mlp.up_proj"
    task = check_arguments(arguments, {})
    linears = {name: policy.model.get_submodule(name)}
    statistics = program.recorded_statistics(packs, linears, torch.bfloat16)
    trial = TrialPolicy(
        policy, task.config.scheme, statistics, [policy.prepare(observation, seeds=7)], batch=4
    )
    found, base = trial.answers({name: 3}), trial.answers({})
    assert policy.model.get_submodule(name) is linears[name]
    scheme = dataclasses.replace(task.config.scheme, weight=IntFormat(3))
    report = quantize_(policy.model, scheme, lambda module, other: other == name, statistics=statistics)
    assert report.rounded_with_feedback == 1
    expected = policy.get_action(observation, seeds=7)
    assert (
        found.values[0, :, 0] == expected[f"action.{next(iter(found.widths))}"].reshape(16, -1)[:, 0]
    ).all()
    assert (found.values != base.values).any()


def test_a_budget_that_no_allocation_meets_is_told_before_anything_is_measured(calibrated, tmp_path):
    with pytest.raises(
        AllocationError,
        match=r"^--budget 2: no allocation of --bits 2 8 takes at most [\d,]+ bytes; the smallest takes "
        r"[\d,]+ bytes \([\d.]+ bits per weight\), the largest [\d,]+ bytes \([\d.]+ bits per weight\)$",
    ):
        allocated(flags(calibrated, tmp_path, budget="2"))
    assert list(tmp_path.iterdir()) == []


def test_observations_of_another_data_configuration_are_refused(calibrated, tmp_path):
    saved = tmp_path / "others"
    observation = next(read_observations(calibrated[2]))
    other = {key.replace("video.", "video.other_"): value for key, value in observation.items()}
    write_observations(saved, [observation, other])
    output = tmp_path / "out"
    with pytest.raises(
        ObservationError, match=r"^observation 1 is none of this policy's data configuration: "
    ):
        allocated(flags(calibrated, output, observations=saved))
    assert list(output.iterdir()) == []


def test_packs_of_another_checkpoint_are_refused(calibrated, tmp_path):
    other = write_random_checkpoint(tmp_path / "other", seed=5)
    arguments = flags((other, *calibrated[1:]), tmp_path / "out")
    with pytest.raises(
        UsageError, match=rf"of {LAYERS} of {LAYERS} layers no inputs were recorded with these"
    ):
        allocated(arguments)


def test_an_unknown_gripper_is_refused(calibrated, tmp_path):
    with pytest.raises(
        UsageError, match="--gripper griper: the policy has no such action; did you mean grip"
    ):
        allocated(flags(calibrated, tmp_path, gripper=("griper",)))


def test_the_command_ends_with_json(done, calibrated, capsys):
    outcome, output = done
    run(flags(calibrated, output))
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["chosen"]["bytes"] == outcome.chosen.allocation.stored
    assert any(line.startswith("recipe: ") and "allocated-5.toml" in line for line in lines)
