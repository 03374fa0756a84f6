"""The programs on a groot folder of lerobot and on an adapter. Oracle: the library, to the last bit."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from gr00t.cli import export
from gr00t.cli.calibration import program as calibration
from gr00t.cli.checkpoints import merge_adapter
from gr00t.cli.inspection import checkpoint_contents
from gr00t.cli.serving import server
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.model.checkpoint.names import N1_5_NAMES
from gr00t.model.checkpoints import scan_layers
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.meta_model import build_structure
from gr00t.model.policy import Gr00tPolicy
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.testing.synthetic import synthetic_observation
from tests.model.lerobot.groot_folder import write_groot_folder
from tests.model.small_artefact import act

QUERY = "action_head.model.transformer_blocks.0.attn1.to_q"
SETTINGS = {"GR00T_DUQUANT_WBITS_DEFAULT": "4", "GR00T_DUQUANT_CALIB_STEPS": "0"}


@pytest.fixture(scope="module")
def programs() -> dict[str, ModuleType]:
    """The programs, by their scripts."""
    return {
        "inference_service": server,
        "export_quantized": export,
        "merge_adapter": merge_adapter,
    }


@pytest.fixture(scope="module")
def groot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groot")
    return write_groot_folder(folder / "groot", folder / "base", config={"embodiment_tag": "so100"})


@pytest.fixture(scope="module")
def adapter(groot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "checkpoint-5"
    shutil.copytree(groot.parent / "base" / "experiment_cfg", folder.parent / "experiment_cfg")
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    matrices = {
        "lora_A": torch.randn(4, 128, generator=generator) / 10,
        "lora_B": torch.randn(128, 4, generator=generator) / 10,
    }
    tensors = {f"base_model.model.{QUERY}.{name}.weight": value for name, value in matrices.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    return folder


def test_a_groot_folder_needs_no_flags_to_be_served(
    programs: dict[str, ModuleType], groot: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    program = programs["inference_service"]
    arguments = ServeArguments(
        server=True, model_path=str(groot), device="cpu", dtype="float32", denoising_steps=1
    )
    policy = program.load_policy(arguments, str(groot))
    assert (
        f"{groot}: a groot policy of lerobot; prepared as lerobot does: frames resized whole" in caplog.text
    )
    assert "keys: video.front (observation.images.front), video.wrist (observation.images.wrist); state" in (
        caplog.text
    )
    assert "of the data config" not in caplog.text
    info = program.server_info(arguments, policy)
    assert (info["data_config"], info["embodiment_tag"]) == ("lerobot", "so100")
    assert info["observation"]["video"] == {"video.front": [1, 48, 64, 3], "video.wrist": [1, 60, 80, 3]}
    observation = synthetic_observation(policy.modality_config, policy.metadata, "go", 1)
    assert policy.prepare(observation, seeds=1).inputs.embodiment.tolist() == [2]
    before = info["identity"]["model"]
    config = groot.parent / "base" / "config.json"  # the architecture is read from it
    config.write_text(config.read_text() + " ")
    assert program.server_info(arguments, policy)["identity"]["model"] != before


def test_a_groot_folder_is_listed_inspected_and_exported(
    programs: dict[str, ModuleType], groot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GR00T_DUQUANT_WBITS_DEFAULT", "4")
    monkeypatch.setenv("GR00T_DUQUANT_DRYRUN", "1")
    assert scan_layers(groot, os.environ)
    found = checkpoint_contents.read_contents(groot)
    assert found["embodiments"] == ["so100"]
    assert found["lerobot"]["embodiment"] == 2
    assert "of lerobot       observation.images.front, observation.images.wrist; 8 numbers of state" in (
        checkpoint_contents.as_text(found)
    )
    program = programs["export_quantized"]
    exported = program.export(program.ExportArguments(str(groot), tmp_path / "out"), SETTINGS)
    assert exported["kind"] == "quantized"
    assert exported["lerobot"] == found["lerobot"]
    moved = Path(shutil.move(tmp_path / "out", tmp_path / "elsewhere"))
    assert not [*moved.glob("policy_*")]
    alike = [
        act(Gr00tPolicy(folder, denoising_steps=1, device="cpu", environ=environ))
        for folder, environ in ((groot, SETTINGS), (moved, {}))
    ]
    assert (alike[0] == alike[1]).all()
    rules = moved / "lerobot_groot.json"
    rules.write_text(rules.read_text().replace('"horizon": 16', '"horizon": 15'))
    with pytest.raises(ArtefactError, match=r"lerobot_groot\.json: changed since it was exported"):
        Gr00tPolicy(moved, device="cpu", environ={})


def test_a_groot_folder_is_calibrated(groot: Path) -> None:
    policy = calibration.load_policy(
        calibration.CalibrateArguments(
            model_path=str(groot), device="cpu", denoising_steps=1, dtype="float32"
        )
    )
    assert policy.embodiment_name == "so100"
    assert policy.modality_config["state"].modality_keys == ["state.state"]


def test_a_merged_checkpoint_is_the_adapter_with_its_base(
    programs: dict[str, ModuleType], groot: Path, adapter: Path, tmp_path: Path
) -> None:
    program, base = programs["merge_adapter"], groot.parent / "base"
    program.merge(program.MergeArguments(str(adapter), tmp_path / "out", str(base), "float32"))
    merged = GR00T_N1_5.from_pretrained(tmp_path / "out").state_dict()
    both = GR00T_N1_5.from_pretrained(adapter, base=base).state_dict()
    assert all(torch.equal(tensor, both[name]) for name, tensor in merged.items())
    before = GR00T_N1_5.from_pretrained(base).state_dict()
    changed = [name for name, tensor in merged.items() if not torch.equal(tensor, before[name])]
    assert changed == [f"{N1_5_NAMES.from_checkpoint(QUERY)}.weight"]
    assert (tmp_path / "out" / "experiment_cfg" / "metadata.json").is_file()
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    with pytest.raises(FileExistsError, match="is there already; delete it, or name another folder"):
        program.merge(program.MergeArguments(str(adapter), tmp_path / "out", str(base)))
    with pytest.raises(ValueError, match=r"base is a whole checkpoint and needs no base"):
        program.merge(program.MergeArguments(str(base), tmp_path / "again", str(base)))


def test_an_adapter_is_exported_with_its_base(
    programs: dict[str, ModuleType], groot: Path, adapter: Path, tmp_path: Path
) -> None:
    program = programs["export_quantized"]
    base = str(groot.parent / "base")
    with pytest.raises(ValueError, match=r"holds a LoRA adapter, changes to a checkpoint and no checkpoint"):
        program.export(program.ExportArguments(str(adapter), tmp_path / "out"), SETTINGS)
    program.export(program.ExportArguments(str(adapter), tmp_path / "out", base=base), SETTINGS)
    with pytest.raises(ValueError, match=r"out is quantized; an adapter is merged into what it was exported"):
        program_policy(adapter, tmp_path / "out")
    with pytest.raises(ValueError, match=r"out is quantized; an adapter is merged into what it was exported"):
        GR00T_N1_5.from_pretrained(adapter, base=tmp_path / "out")
    with pytest.raises(ValueError, match=r"out is quantized; an adapter is merged into what it was exported"):
        build_structure(adapter, tmp_path / "out")
    assert (tmp_path / "out" / "experiment_cfg" / "metadata.json").is_file()


def program_policy(adapter: Path, base: Path) -> Gr00tPolicy:
    from examples.Libero.custom_data_config import LiberoDataConfig

    data = LiberoDataConfig()
    return Gr00tPolicy(
        adapter, None, data.modality_config(), data.transform(), base=base, device="cpu", environ={}
    )
