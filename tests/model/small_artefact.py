"""Small policies, quantized as they are loaded or exported, for the tests of artefacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import (
    DuQuantConfig,
    enable_duquant_if_configured,
    plan,
    quantize_,
)
from gr00t.quantization.calibration.record import write_record
from gr00t.quantization.calibration.recording import record_inputs
from gr00t.quantization.checkpoint.checksums import checksum
from gr00t.quantization.checkpoint.manifest import FILE
from gr00t.quantization.checkpoint.sidecar import SIDECAR, write_sidecar
from gr00t.quantization.checkpoint.tensor_file import write_tensors
from gr00t.testing.synthetic import synthetic_observation

LAYERS = 2 * 7 + 4 * 2
# The second has every tensor that a layer can have, and two layers that are not W4 A8.
KINDS = {
    "dynamic": {"CALIB_STEPS": "0"},
    "static": {
        "CALIB_STEPS": "2",
        "ROTATION": "duquant",
        "ROW_ROT": "propagate",
        "LS": "0.5",
        "WBITS": "backbone.language_model.layers.0.mlp.down_proj:8,action_head.layers.0.mlp.up_proj:16",
    },
}


CALIBRATION = {"date": "2026-11-22 10:00", "requests": 2, "observations": "synthetic"}


def variables(**settings: str) -> dict[str, str]:
    return {f"GR00T_DUQUANT_{name}": text for name, text in settings.items()}


def serve(
    folder: Path, environ: dict[str, str], dtype: torch.dtype = torch.bfloat16, **options: bool
) -> Gr00tPolicy:
    data = LiberoDataConfig()
    return Gr00tPolicy(
        folder,
        "new_embodiment",
        data.modality_config(),
        data.transform(),
        2,
        "cpu",
        torch_dtype=dtype,
        environ=environ,
        **options,
    )


def load(folder: Path, dtype: torch.dtype = torch.bfloat16) -> GR00T_N1_5:
    """The model of a checkpoint alone, with no settings."""
    return open_checkpoint(folder).load_model(dtype, {})[0]


def act(policy: Gr00tPolicy, seed: int = 1) -> np.ndarray:
    observation = synthetic_observation(policy.modality_config, policy.metadata, "open the drawer", seed)
    return np.concatenate(list(policy.get_action(observation, seeds=seed).values()), axis=-1)


def quantized(checkpoint: Path, environ: dict[str, str]) -> tuple[GR00T_N1_5, Any]:
    model = GR00T_N1_5.from_pretrained(checkpoint, torch.bfloat16)
    report = enable_duquant_if_configured(model, environ, module_aliases(model), DEFAULTS)
    assert report is not None
    return model, report


def calibrate(checkpoint: Path, environ: dict[str, str]) -> None:
    """Do what scripts/calibrate.py does, by two observations."""
    policy = serve(checkpoint, variables(ENABLE="0"))
    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    assert config is not None
    assert config.pack_dir is not None
    asked, aliases = (config.scheme, config.layer_filter), module_aliases(policy.model)
    plans = plan(policy.model, *asked, aliases=aliases)
    layers = {layer.name: layer.linear for layer in plans if layer.spec is not None}
    with record_inputs(policy.model, layers) as recording:
        act(policy, 3)
    statistics, runtime = recording.statistics(), config.runtime
    quantize_(policy.model, *asked, statistics=statistics, runtime=runtime, aliases=aliases)
    for seed in (3, 4):
        act(policy, seed)
    write_record(config.pack_dir, CALIBRATION, complete=True)


def reseal(
    folder: Path,
    change_manifest: Callable[[dict[str, Any]], None] = lambda manifest: None,
    change_tensors: Callable[[dict[str, torch.Tensor]], None] = lambda tensors: None,
) -> None:
    """Change an artefact and compute every hash anew, as somebody who knows how would."""
    path = folder / FILE
    if path.is_file():
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        change_tensors(tensors)
        write_tensors(path, tensors)
    values = json.loads((folder / SIDECAR).read_text())["content"]
    values["files"] = {name: checksum(folder / name) for name in values["files"] if (folder / name).is_file()}
    change_manifest(values)
    write_sidecar(folder, "artefact", values)
