"""scripts/export_quantized.py and scripts/inspect_checkpoint.py. Oracles: the model's own memory, the files.

That what is exported is what would be served otherwise, bit for bit: tests/model/test_artefact.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gr00t.cli import export
from gr00t.cli.inspection import checkpoint as checkpoint_program
from gr00t.cli.inspection import checkpoint_contents
from gr00t.eval.arms.recipes import RecipeError
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.quantized_layers import SCOPES
from gr00t.quantization import DuQuantConfigError, DuQuantLinear, plan
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.quantization.numerics.statistics import InputRecorder, RowsInMemory
from gr00t.quantization.quantize import apply_plans
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.model.small_artefact import load, reseal
from tests.shell import REPO

LAYERS = 2 * 7 + 4 * 2


@pytest.fixture(scope="module")
def programs() -> dict[str, ModuleType]:
    """Both programs, by their scripts."""
    return {"export_quantized": export, "inspect_checkpoint": checkpoint_program}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def exported(
    programs: dict[str, ModuleType], checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """An artefact by the recipe rtn, and what the program says of it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    program = programs["export_quantized"]
    # What is exported beside a recipe is not looked at.
    found = program.export(
        program.ExportArguments(str(checkpoint), out, "rtn"), {"GR00T_DUQUANT_BLOCK_OUT": "4"}
    )
    return out, found


def variables(**settings: str) -> dict[str, str]:
    return {f"GR00T_DUQUANT_{name}": text for name, text in settings.items()}


def run(program: str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_DUQUANT_")}
    return subprocess.run(
        [sys.executable, REPO / "scripts" / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPO,
        env=environ | variables(**settings) | {"PYTHONPATH": str(REPO)},
        check=False,
    )


# What is said of an artefact


def test_bytes_are_those_that_the_layers_hold_in_memory(exported):
    out, found = exported
    model = load(out)
    layers = [module for module in model.modules() if isinstance(module, DuQuantLinear)]
    said = found["quantized"]
    assert said["layers"] == len(layers) == LAYERS
    assert said["bytes"] == sum(layer.resident_bytes() for layer in layers)
    assert said["bytes"] == sum(said["bytes_by_kind"].values())
    assert said["bytes_by_kind"]["codes"] == sum(layer.codes.nbytes for layer in layers)
    assert said["bytes_by_kind"]["scales"] == sum(layer.row_scale.nbytes for layer in layers)
    assert "rotations" not in said["bytes_by_kind"]
    assert said["weights"] == sum(layer.spec.in_features * layer.spec.out_features for layer in layers)
    assert said["bits_per_weight"] == 8 * said["bytes"] / said["weights"]
    assert said["bytes"] < said["file_bytes"] == (out / FILE).stat().st_size
    rest = load_file(out / "model-00001-of-00001.safetensors")
    assert found["float_bytes"] == sum(value.nbytes for value in rest.values())
    assert found["float_bytes"] == sum(found["float_bytes_by_part"].values())
    assert found["weight_file_bytes"] == sum(path.stat().st_size for path in out.glob("*.safetensors"))


def test_the_recipe_alone_decides(exported):
    said = exported[1]["quantized"]
    assert said["bits"] == {"W4 A8": LAYERS}
    assert said["settings"]["GR00T_DUQUANT_PERMUTE"] == "0"
    assert said["settings"]["GR00T_DUQUANT_BLOCK_OUT"] == ""
    assert said["activations"] == {"scaled per token": LAYERS}
    assert said["blocks"] == {}


def test_inspecting_says_what_the_export_said_and_checks_the_hashes(exported, programs, capsys, monkeypatch):
    out, said = exported
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(out), "--json"])
    status = programs["inspect_checkpoint"].main()
    found = json.loads(capsys.readouterr().out)
    assert status == 0
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != SIDECAR)
    assert found.pop("hashes") == f"verified: 7 files, {size:,} bytes, are what was exported"
    assert said["hashes"] == "not checked"
    assert found == {key: value for key, value in said.items() if key != "hashes"}


def test_the_text_tells_the_same(exported, programs):
    text = checkpoint_contents.as_text(exported[1])
    assert f"quantized        {LAYERS} layers ({LAYERS} x W4 A8), 819,200 weights" in text
    assert "codes                                    409,600" in text
    assert "WBITS_DEFAULT=4 ABITS=8 BLOCK=16 WSCALE=channel PERMUTE=0 ROTATION=none" in text
    assert "format 'gr00t-duquant 2', gr00t 0." in text
    assert "embodiments      new_embodiment\ntokenizer        tokenizer.json" in text


@pytest.mark.parametrize("kind", ["values", "another file"])
def test_what_a_hash_covers_and_no_export_writes_is_damaged_too(
    exported, programs, tmp_path, monkeypatch, capsys, kind
):
    folder = shutil.copytree(exported[0], tmp_path / "copy")
    if kind == "values":
        name = "backbone.eagle_model.language_model.model.layers.0.self_attn.q_proj.codes"
        reseal(folder, change_tensors=lambda tensors: tensors[name].zero_())
    else:
        (folder / "vocab.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(folder)])
    status = programs["inspect_checkpoint"].main()
    assert status == 1
    said = capsys.readouterr().out
    assert "DAMAGED: " in said
    assert (
        "q_proj: codes: 128 rows use less" if kind == "values" else "vocab.json: was not exported"
    ) in said


def test_a_damaged_artefact_ends_with_status_1_and_the_file(
    exported, programs, tmp_path, monkeypatch, capsys
):
    for path in exported[0].rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(exported[0])).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(exported[0])).write_bytes(path.read_bytes())
    shard = tmp_path / "model-00001-of-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(tmp_path)])
    status = programs["inspect_checkpoint"].main()
    assert status == 1
    assert f"{shard.name}: changed since it was exported" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(tmp_path), "--no-verify"])
    status = programs["inspect_checkpoint"].main()
    assert status == 0


# A float checkpoint


def test_a_float_checkpoint_is_described_from_its_headers(checkpoint, programs):
    found = checkpoint_contents.read_contents(checkpoint)
    weights = load_file(checkpoint / "model-00001-of-00001.safetensors")
    assert (found["kind"], found["model_type"], "quantized" in found) == ("float", "gr00t_n1_5", False)
    assert found["float_bytes"] == sum(value.nbytes for value in weights.values())
    assert found["float_bytes_by_dtype"] == {"BF16": found["float_bytes"]}
    vision = sum(value.nbytes for name, value in weights.items() if ".vision_model." in name)
    assert found["float_bytes_by_part"]["backbone.vision"] == vision
    assert "unknown" not in found["float_bytes_by_part"]
    assert found["embodiments"] == ["new_embodiment"]


def test_inspecting_imports_no_torch(checkpoint):
    code = (
        f"import runpy, sys; sys.argv = ['inspect', {str(checkpoint)!r}]; sys.path.insert(0, 'scripts')\n"
        "try: runpy.run_path('scripts/inspect_checkpoint.py', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'transformers', 'safetensors'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert done.stdout.splitlines()[0] == f"{checkpoint}: float, gr00t_n1_5"
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_no_checkpoint_is_one_message(programs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(tmp_path)])
    assert programs["inspect_checkpoint"].main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"error: .* is not a GR00T checkpoint: it has no config\.json", line)


# What is refused before anything is read


@pytest.mark.parametrize(
    ("flags", "settings", "message"),
    [
        ({}, {}, "nothing to export, DuQuant is not enabled: no GR00T_DUQUANT_"),
        (
            {},
            {"WBITS_DEFAULT": "4"},
            r"static activation scales and smoothing come from recorded inputs: run",
        ),
        ({"recipe": "w4a8"}, {}, "static activation scales and smoothing come from recorded inputs"),
        ({"recipe": "recommended"}, {}, "static activation scales and smoothing come from recorded inputs"),
        ({"packdir": Path("not/there")}, {"WBITS_DEFAULT": "4"}, "PACKDIR not/there: no such folder"),
        ({"recipe": "recomended"}, {}, r"--recipe recomended: did you mean recommended\?"),
        ({"recipe": "bf16"}, {}, "nothing to export"),
        ({}, {"DRYRUN": "1"}, "asks for a list of layers"),
        ({"recipe": "w4a8", "scope": "wide"}, {}, "--scope wide says which layers are taken, and so does"),
        ({"scope": "wied"}, {}, r"--scope wied: did you mean wide\?"),
    ],
)
def test_settings_that_export_nothing_are_refused(programs, tmp_path, flags, settings, message):
    program = programs["export_quantized"]
    with pytest.raises(program.UsageError, match=message):
        program.config_of(program.ExportArguments("a/b", tmp_path / "out", **flags), variables(**settings))


@pytest.mark.parametrize("recipe", [None, "rtn"])
def test_a_scope_goes_with_the_variables_and_with_a_recipe_that_names_no_layers(programs, tmp_path, recipe):
    program = programs["export_quantized"]
    arguments = program.ExportArguments("a/b", tmp_path / "out", recipe, scope="wide")
    config = program.config_of(arguments, variables(CALIB_STEPS="0"))
    assert config.include.pattern == SCOPES["wide"]["INCLUDE"]
    assert config.permute == (recipe is None)
    assert config.weight_bits_by_layer[0] == ("backbone.vision.encoder.layers.*.*", 8)


def test_settings_and_recipes_that_are_wrong_are_named(programs, tmp_path):
    program = programs["export_quantized"]
    with pytest.raises(DuQuantConfigError, match="did you mean GR00T_DUQUANT_ABITS"):
        program.config_of(program.ExportArguments("a/b", tmp_path), variables(ABIT="8"))
    with pytest.raises(RecipeError, match=r"no/such\.toml: cannot be read"):
        program.config_of(program.ExportArguments("a/b", tmp_path, "no/such.toml"), {})


def test_a_recipe_with_statistics_is_not_exported_from_packs_without(programs, checkpoint, tmp_path):
    program = programs["export_quantized"]
    (tmp_path / "packs").mkdir()
    arguments = program.ExportArguments(
        str(checkpoint), tmp_path / "out", "recommended", packdir=tmp_path / "packs"
    )
    with pytest.raises(
        program.UsageError,
        match=rf"22 of 22 layers, as {FIRST}, lack statistics of recorded inputs: .* has none for these",
    ):
        program.export(arguments, {})
    assert not (tmp_path / "out").exists()


FIRST = "backbone.language_model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def calibrated(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of the recipe w3a8, by inputs made up, and at 4 bits, so that an export has to round anew."""
    folder = tmp_path_factory.mktemp("calibrated")
    model = GR00T_N1_5.from_source(open_checkpoint(checkpoint).source, torch.bfloat16)
    config = export.config_of(export.ExportArguments("a/b", folder, "w3a8", packdir=folder), {})
    config = dataclasses.replace(config, weight_bits=4)
    plans = plan(model, config.scheme, config.layer_filter, aliases=module_aliases(model))
    statistics = {}
    for layer in plans:
        if layer.spec is not None:
            rows = torch.randn(48, layer.spec.in_features, generator=torch.Generator().manual_seed(1))
            recorder = InputRecorder(layer.spec.in_features)
            recorder.observe(rows)
            statistics[layer.name] = recorder.result(RowsInMemory(rows.bfloat16()))
    apply_plans(model, plans, config, statistics)
    return folder


def damage(path: Path) -> None:
    """Change recorded statistics in a pack, which `duquant.json` has a hash of."""
    tensors = load_file(path)
    save_file({**tensors, "statistics.peak": tensors["statistics.peak"] * 2}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("recipe", "harm", "message"),
    [
        (
            "w3a8",
            lambda packs: shutil.rmtree(packs / "inputs"),
            rf"22 of 22 layers, as {FIRST}, .* feedback: ",
        ),
        (None, lambda packs: shutil.rmtree(packs / "inputs"), rf"22 of 22 layers, as {FIRST}, .* feedback: "),
        (
            "w3a8",
            lambda packs: damage(packs / f"{FIRST}.safetensors"),
            f"1 of 22 layers, as {FIRST}, lack stat",
        ),
        (
            None,
            lambda packs: damage(packs / f"{FIRST}.safetensors"),
            f"1 of 22 layers, as {FIRST}, lack stat",
        ),
        (
            "w3a8",
            lambda packs: (packs / SIDECAR).write_text("{"),
            r"duquant\.json: damaged .* calibrate anew",
        ),
    ],
)
def test_a_calibration_that_cannot_be_used_whole_is_not_exported(
    programs, checkpoint, calibrated, tmp_path, recipe, harm, message
):
    packs = shutil.copytree(calibrated, tmp_path / "packs")
    harm(packs)
    arguments = export.ExportArguments(str(checkpoint), tmp_path / "out", recipe, packdir=packs)
    with pytest.raises(ValueError, match=message):
        export.export(arguments, variables(WBITS_DEFAULT="3", CALIB_STEPS="0", LS="0.5"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rounding", ["feedback", "nearest"])
def test_a_calibration_that_is_whole_is_exported_with_feedback_and_without_rows_to_nearest(
    checkpoint, calibrated, tmp_path, rounding
):
    packs = shutil.copytree(calibrated, tmp_path / "packs")
    if rounding == "nearest":
        shutil.rmtree(packs / "inputs")
    arguments = export.ExportArguments(str(checkpoint), tmp_path / "out", packdir=packs)
    settings = variables(WBITS_DEFAULT="3", CALIB_STEPS="0", LS="0.5", ROUNDING=rounding)
    assert export.export(arguments, settings)["quantized"]["bits"] == {"W3 A8": LAYERS}
    model = load(tmp_path / "out")
    layers = [module for module in model.modules() if isinstance(module, DuQuantLinear)]
    assert {layer.spec.rounding.value for layer in layers} == {rounding}
    assert all(layer.spec.informed for layer in layers)


def test_an_artefact_is_not_exported_again_nor_written_over(programs, exported, tmp_path):
    program = programs["export_quantized"]
    with pytest.raises(program.UsageError, match="out is exported already; start from the checkpoint"):
        program.export(program.ExportArguments(str(exported[0]), tmp_path / "again", "rtn"), {})
    with pytest.raises(FileExistsError, match="out is there already"):
        program.export(program.ExportArguments(str(exported[0]), exported[0], "rtn"), {})


# As a person would


@pytest.mark.slow
def test_the_commands_export_and_list(checkpoint, tmp_path):
    out = tmp_path / "out"
    done = run("export_quantized.py", checkpoint, out, CALIB_STEPS="0", BLOCK="8")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["quantized"]["blocks"] == {"8": LAYERS}
    assert f"[GR00T-DUQUANT] Total layers replaced: {LAYERS}" in done.stderr.splitlines()
    listed = run("inference_service.py", "--server", "--model-path", out, DRYRUN="1")
    assert listed.returncode == 0, listed.stderr
    assert listed.stderr.count("block_in=8") == LAYERS
    refused = run("inference_service.py", "--server", "--model-path", out, DRYRUN="1", BLOCK="16")
    assert refused.returncode == 1
    assert "GR00T_DUQUANT_BLOCK='16': exported with '8'" in refused.stderr
    assert "Traceback" not in refused.stderr
