"""Evaluating an exported artefact: as what it is, or not at all. Oracle: what it was exported by."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.arms.arms import parse_arm
from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.session import artefacts, server_checks, session
from gr00t.eval.session.options import EvaluationOptions
from gr00t.libero.tasks.suites import LiberoError
from gr00t.quantization.calibration.record import write_record
from gr00t.quantization.checkpoint.manifest import FILE
from tests.eval.rollout.stubs import records_of
from tests.shell import REPO

RECIPES = REPO / "examples" / "Libero" / "recipes"
CALIBRATION = {"requests": 32, "source": {"suite": "libero_object", "init_states_by_task": {"3": [49, 1]}}}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact by the settings of the recipe rtn."""
    from gr00t.model.artefact import export_artefact
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.model.gr00t_n1 import GR00T_N1_5
    from gr00t.model.quantized_layers import DEFAULTS
    from gr00t.quantization import enable_duquant_if_configured
    from gr00t.quantization.settings.environment import to_environ
    from gr00t.testing.random_checkpoint import write_random_checkpoint

    folder = tmp_path_factory.mktemp("model")
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    model = GR00T_N1_5.from_pretrained(checkpoint)
    rtn = parse_arm("rtn", RECIPES, {}).recipe
    assert rtn is not None
    report = enable_duquant_if_configured(model, to_environ(rtn.settings), module_aliases(model), DEFAULTS)
    assert report is not None
    export_artefact(model, report, checkpoint, folder / "out")
    return folder / "out"


def test_an_artefact_is_what_environment_and_its_own_recipe_ask_for(artefact: Path) -> None:
    for name in ("environment", "mine=environment", "rtn"):
        arm = parse_arm(name, RECIPES, {})
        config, manifest = artefacts.settle_recipe(arm, str(artefact))
        assert (manifest.informed, len(manifest.layers)) == (0, 22)
        assert (config.permute, config.execution.value, config.pack_dir) == (False, "auto", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "bf16",
            r"arm bf16 is not to be quantized, but .*/out is a quantized model; evaluate it as it is: --arms",
        ),
        (
            "w4a8",
            r"arm w4a8: .*/out: the artefact is not what the settings ask for\n(.*\n)*.*PERMUTE='1': exp",
        ),
        ("w4a4", r"ABITS='4': exported with '8'"),
    ],
)
def test_a_recipe_that_it_is_not_is_refused_before_anything_is_started(
    environ: dict[str, str],
    artefact: Path,
    tmp_path: Path,
    name: str,
    message: str,
) -> None:
    with pytest.raises(LiberoError, match=message):
        artefacts.settle_recipe(parse_arm(name, RECIPES, {}), str(artefact))


def test_an_exported_setting_that_it_is_not_is_refused(artefact: Path) -> None:
    arm = parse_arm("environment", RECIPES, {"BLOCK": "64"})
    with pytest.raises(LiberoError, match=r"GR00T_DUQUANT_BLOCK='64': exported with '16'"):
        artefacts.settle_recipe(arm, str(artefact))


def test_a_recipe_with_statistics_is_not_met_by_an_artefact_without(artefact: Path, tmp_path: Path) -> None:
    recipe = (RECIPES / "rtn.toml").read_text().replace("[duquant]", "calibrate = true\n[duquant]")
    (tmp_path / "r.toml").write_text(recipe)
    with pytest.raises(LiberoError, match=r"wants statistics of recorded inputs; .*/out was exported"):
        artefacts.settle_recipe(parse_arm(str(tmp_path / "r.toml"), RECIPES, {}), str(artefact))


def test_a_damaged_artefact_is_refused(artefact: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes((artefact / FILE).read_bytes()[:-1])
    with pytest.raises(LiberoError, match=r"arm environment: .*truncated"):
        artefacts.settle_recipe(parse_arm("environment", RECIPES, {}), str(tmp_path))


def test_its_server_has_to_say_that_it_is_what_was_exported(artefact: Path) -> None:
    arm = parse_arm("rtn", RECIPES, {})
    config, _ = artefacts.settle_recipe(arm, str(artefact))
    report = {"enabled": True, "layers_quantized": 22, "calibrating": False, "layers_informed": 0}
    report |= {"config": config.to_dict(), "artefact": {"calibration": None}}
    server_checks.check_report(arm, config, ServerDescription.model_validate({"quantization": report}))
    report["config"] = {**config.to_dict(), "GR00T_DUQUANT_EXECUTION": "fake"}
    with pytest.raises(LiberoError, match="runs with GR00T_DUQUANT_EXECUTION='fake', not 'auto'"):
        server_checks.check_report(arm, config, ServerDescription.model_validate({"quantization": report}))
    # Static scales of unknown origin are fixed in it, or it would not have been exported.
    static = dataclasses.replace(config, calibration_steps=4)
    report["config"] = static.to_dict()
    server_checks.check_report(arm, static, ServerDescription.model_validate({"quantization": report}))
    with pytest.raises(LiberoError, match="found no calibrated packs"):
        server_checks.check_report(
            arm, static, ServerDescription.model_validate({"quantization": {**report, "artefact": None}})
        )


def options(artefact: Path, tmp_path: Path, arms: str) -> Any:
    return EvaluationOptions(
        suite="object",
        arms=arms,
        model=str(artefact),
        tasks="3",
        trials=2,
        max_steps=12,
        denoising_steps=1,
        output=tmp_path / "out",
        assets="stand-ins",
        rendering="full",
        device="cpu",
        workers=1,
    )


@pytest.mark.usefixtures("stub_simulators")
def test_bf16_is_refused_by_the_program_with_nothing_started(
    environ: dict[str, str], artefact: Path, tmp_path: Path
) -> None:
    with pytest.raises(LiberoError, match="arm bf16 is not to be quantized"):
        session.run(options(artefact, tmp_path, "environment,bf16"), environ)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("stub_simulators")
def test_a_run_evaluates_it_and_records_what_it_was(
    environ: dict[str, str], artefact: Path, tmp_path: Path
) -> None:
    session.run(options(artefact, tmp_path, "environment,rtn"), environ)
    records = records_of(tmp_path / "out")
    assert [record.key.arm for record in records] == ["environment", "environment", "rtn", "rtn"]
    assert [record.conditions.quantized_layers for record in records] == [22] * 4
    actions = [record.outcome.actions_hash for record in records]
    assert actions[:2] == actions[2:]
    facts = json.loads((tmp_path / "out" / "arms" / "environment.json").read_text())
    assert facts["quantization"]["enabled"]
    assert facts["quantization"]["config"]["GR00T_DUQUANT_PERMUTE"] == "0"


@pytest.mark.slow
@pytest.mark.usefixtures("stub_simulators")
def test_states_that_it_was_calibrated_on_are_not_evaluated(
    environ: dict[str, str], artefact: Path, tmp_path: Path
) -> None:
    """Exported anew from packs whose record names state 1 of task 3."""
    import torch

    from gr00t.model.artefact import export_artefact
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.model.gr00t_n1 import GR00T_N1_5
    from gr00t.model.quantized_layers import DEFAULTS
    from gr00t.quantization import DuQuantConfig, enable_duquant_if_configured, plan, quantize_
    from gr00t.quantization.numerics.statistics import InputStatistics

    checkpoint = artefact.with_name("checkpoint")
    settings = {"GR00T_DUQUANT_CALIB_STEPS": "0", "GR00T_DUQUANT_PACKDIR": str(tmp_path / "packs")}
    config = DuQuantConfig.from_environ(settings, DEFAULTS)
    assert config is not None
    model = GR00T_N1_5.from_pretrained(checkpoint)
    asked = (config.scheme, config.layer_filter)
    targets = [layer for layer in plan(model, *asked, aliases=module_aliases(model)) if layer.spec]
    statistics = {
        target.name: InputStatistics(
            torch.ones(target.linear.in_features), torch.ones(32, target.linear.in_features).bfloat16()
        )
        for target in targets
    }
    quantize_(model, *asked, statistics=statistics, runtime=config.runtime, aliases=module_aliases(model))
    write_record(tmp_path / "packs", CALIBRATION, complete=True)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    report = enable_duquant_if_configured(model, settings, module_aliases(model), DEFAULTS)
    assert report is not None
    export_artefact(model, report, checkpoint, tmp_path / "calibrated")
    with pytest.raises(
        LiberoError, match="environment was calibrated on initial state 1 of libero_object task 3"
    ):
        session.run(options(tmp_path / "calibrated", tmp_path, "environment"), environ)
