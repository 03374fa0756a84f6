"""Exported, quantized policies. Oracle: the policy that is quantized as it is loaded, bit for bit."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gr00t.model import artefact
from gr00t.model.artefact import export_artefact
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.quantization import (
    DuQuantConfigError,
    DuQuantDryRunError,
    DuQuantLinear,
    duquant_layers,
    weight_codes,
)
from gr00t.quantization.checkpoint.manifest import FILE, read_manifest
from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.int8_trial import try_int8
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import (
    CALIBRATION,
    KINDS,
    LAYERS,
    act,
    calibrate,
    load,
    quantized,
    serve,
    variables,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module", params=KINDS)
def exported(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Gr00tPolicy]:
    """An artefact, and the policy that is quantized as it is loaded."""
    folder = tmp_path_factory.mktemp(request.param)
    environ = variables(PACKDIR=str(folder / "packs"), **KINDS[request.param])
    if request.param == "static":
        calibrate(checkpoint, environ)
    model, report = quantized(checkpoint, environ)
    export_artefact(model, report, checkpoint, folder / "out", checkpoint="somebody/a-policy")
    return folder / "out", serve(checkpoint, environ)


# The round trip


def test_actions_and_every_tensor_are_those_of_the_policy_quantized_as_it_is_loaded(exported):
    folder, expected = exported
    policy = serve(folder, {})
    states = expected.model.state_dict(), policy.model.state_dict()
    assert list(states[0]) == list(states[1])
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []
    assert [name for name in states[0] if states[0][name].dtype != states[1][name].dtype] == []
    for seed in (1, 2):
        np.testing.assert_array_equal(act(policy, seed), act(expected, seed))


def test_every_tensor_that_a_layer_can_have_and_the_calibration_are_exported(exported):
    manifest = read_manifest(exported[0])
    with safe_open(exported[0] / FILE, "pt") as file:
        names = file.keys()
    if manifest.informed:
        assert manifest.informed == LAYERS
        buffers = {*DuQuantLinear.__annotations__, *duquant_layers.Transforms.__annotations__}
        assert {name.rpartition(".")[2] for name in names} == {*buffers, "bias", "weight"}
        assert manifest.calibration == {"complete": True, **CALIBRATION}
    else:
        dynamic = {"codes", "block_scale", "row_scale", "perm", "rotation_in", "rotation_out", "bias"}
        assert {name.rpartition(".")[2] for name in names} == dynamic
        assert manifest.calibration is None


@pytest.mark.parametrize("setting", [{"EXECUTION": "fake"}, {"EXECUTION": "auto"}, {"BACKEND": "torch"}])
def test_every_execution_and_pytorchs_operations_give_the_same_bits(exported, setting):
    folder, expected = exported
    policy = serve(folder, variables(**setting))
    np.testing.assert_array_equal(act(policy), act(expected))


def test_the_model_alone_is_loaded_without_any_setting(exported):
    folder, expected = exported
    model = load(folder)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, DuQuantLinear)}
    assert len(layers) == LAYERS
    assert all(
        torch.equal(value, expected.model.state_dict()[key]) for key, value in model.state_dict().items()
    )
    name = "action_head.layers.1.mlp.up_proj"
    x = torch.randn(5, layers[name].spec.in_features, dtype=torch.bfloat16)
    assert torch.equal(layers[name](x), expected.model.get_submodule(name)(x))


def test_kernels_are_chosen_for_where_the_weights_are(exported):
    # Built on meta, where others would be: float32 sums by PyTorch even on a CPU with an int8 GEMM.
    report = open_checkpoint(exported[0]).load_model(torch.bfloat16, variables(BACKEND="torch"))[1]
    is_exact, _ = try_int8()
    layers = [layer for layer in report.layers.values() if layer.row_scale is not None]
    assert {layer.backend.accumulator for layer in layers} == {"int8" if is_exact else "float32"}


def test_nothing_is_quantized_and_no_float_copy_is_in_the_files(exported, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a weight was quantized though it is in the artefact")

    folder, _ = exported
    monkeypatch.setattr(weight_codes, "quantize_weight", refuse)
    monkeypatch.setattr(duquant_layers.Transforms, "choose", refuse)
    policy = serve(folder, {})
    report = policy.quantization
    floating = {name for name, layer in report.layers.items() if layer.spec.weight is None}
    assert floating <= {"action_head.layers.0.mlp.up_proj"}
    state = policy.model.state_dict()
    assert {name for name in report.layers if f"{name}.weight" in state} == floating
    assert all(layer._source is None for layer in report.layers.values())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here to see mapped files in")
def test_no_weight_is_mapped_from_a_file(exported, checkpoint):
    """Whoever wrote over a mapped file changed a model that was being served."""
    folder, _ = exported
    models = [load(folder), GR00T_N1_5.from_pretrained(checkpoint, torch.bfloat16)]
    mapped = Path("/proc/self/maps").read_text()
    assert [model.dtype for model in models] == [torch.bfloat16] * 2
    assert str(folder) not in mapped
    assert str(checkpoint) not in mapped


def test_files_that_are_written_over_or_cut_afterwards_do_not_reach_the_model(exported, checkpoint, tmp_path):
    for source in (exported[0], checkpoint):
        copy = shutil.copytree(source, tmp_path / f"{source.name}-copy")
        model = load(copy)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        for path in copy.glob("*.safetensors"):
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.truncate(10)
        after = model.state_dict()
        assert [name for name in after if not torch.equal(after[name], before[name])] == []


def test_the_report_is_that_of_the_policy_quantized_as_it_is_loaded(exported):
    folder, expected = exported
    found, wanted = serve(folder, {}).quantization_report(), expected.quantization_report()
    by_execution = {"accumulator", "accumulator_reason", "bytes"}  # unpacked weights are kept by some only
    for report in (found, wanted):
        report["layers"] = {
            name: {key: value for key, value in layer.items() if key not in by_execution}
            for name, layer in report["layers"].items()
        }
    same = ("layers", "layers_replaced", "layers_quantized", "layers_informed", "calibrating")
    same += ("linear_bytes_before", "model_bytes_before")
    assert {key: found[key] for key in same} == {key: wanted[key] for key in same}
    assert (found["enabled"], found["layers_from_packs"], wanted["artefact"]) == (True, 0, None)
    assert found["artefact"]["checkpoint"] == "somebody/a-policy"
    assert found["config"]["GR00T_DUQUANT_EXECUTION"] == "auto"
    differing = {key for key, text in wanted["config"].items() if found["config"][key] != text}
    assert differing == {"GR00T_DUQUANT_EXECUTION", "GR00T_DUQUANT_PACKDIR"}
    assert json.loads(json.dumps(found)) == found


def test_integers_multiply_where_there_is_a_kernel(exported):
    folder, _ = exported
    report = serve(folder, dict(os.environ)).quantization
    wanted = library.supported()
    if not wanted:
        pytest.skip("no compiler here: no kernel that reads packed codes")
    found = {layer.backend.accumulator for layer in report.layers.values() if layer.spec.weight is not None}
    assert found == {wanted[0]}


def test_the_log_names_layers_hashes_and_kernels(exported, caplog):
    folder, _ = exported
    caplog.set_level(logging.INFO)
    serve(folder, {})
    lines = [line for line in caplog.messages if line.startswith("[GR00T-DUQUANT]")]
    assert lines[0].startswith(
        f"[GR00T-DUQUANT] Artefact {folder}: exported from somebody/a-policy; 7 files, "
    )
    assert sum("[REPLACED]" in line for line in lines) == LAYERS
    assert f"[GR00T-DUQUANT] Total layers replaced: {LAYERS}" in lines
    assert f"[GR00T-DUQUANT] Bytes of the {LAYERS} layers: " in "\n".join(lines)
    assert f"{LAYERS} layers: sums by" in lines[-1] or "layers: sums by" in lines[-1]


def test_another_precision_of_the_rest_is_said(exported, caplog):
    folder, _ = exported
    policy = serve(folder, {}, torch.float32)
    assert caplog.messages == ["[GR00T-DUQUANT] Artefact exported for bfloat16, loaded in float32"]
    assert np.isfinite(act(policy)).all()
    assert {
        layer.codes.dtype for layer in policy.quantization.layers.values() if layer.codes is not None
    } <= {
        torch.uint8,
        torch.int8,
    }


# Settings beside it


def test_settings_that_it_is_not_end_the_start_before_weights_are_read(exported, monkeypatch):
    folder, _ = exported
    monkeypatch.setattr(artefact, "read_checked", lambda *args: pytest.fail("weights were read"))
    with pytest.raises(DuQuantConfigError, match=r"GR00T_DUQUANT_ABITS='4': exported with '8'"):
        serve(folder, variables(ABITS="4"))
    with pytest.raises(DuQuantConfigError, match=r"GR00T_DUQUANT_ENABLE=0: an artefact has no unquantized"):
        serve(folder, variables(ENABLE="0"))


def test_a_dry_run_lists_the_layers_of_the_artefact(exported, caplog):
    folder, _ = exported
    caplog.set_level(logging.INFO)
    with pytest.raises(DuQuantDryRunError):
        serve(folder, variables(DRYRUN="1"))
    assert sum("[DRYRUN]" in line for line in caplog.messages) == LAYERS
    assert caplog.messages[-1] == f"[GR00T-DUQUANT] Dry-run total layers listed: {LAYERS}"
