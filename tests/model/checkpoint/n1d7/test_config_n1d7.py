"""What config.json of GR00T N1.7 says, what it does not say, and what is refused.

Oracles: the recorded defaults of NVIDIA's code, the recorded values of its checkpoint, and texts of errors.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.n1d7.config import DEFAULTS, Gr00tN1d7Config
from gr00t.model.checkpoint.source import read_config
from gr00t.model.checkpoints import open_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.policy import Gr00tPolicy
from tests.model.gr00t_n1d7.recorded_set import PARITY_N17, TINY
from tests.model.parity_set import PARITY


def changed(path: str, value: object, file: str = "config.json") -> Gr00tN1d7Config:
    """The tiny architecture with one value replaced; ... removes it."""
    files = Gr00tN1d7Config.from_folder(TINY).to_json_files()
    *parents, key = path.split(".")
    section: Any = files[file]
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[key]
    else:
        section[key] = value
    return Gr00tN1d7Config.from_json_files(files)


def write(folder: Path, **values: object) -> Path:
    """A folder of which only config.json is there."""
    (folder / "config.json").write_text(json.dumps({"model_type": "Gr00tN1d7", **values}))
    return folder


def test_the_built_in_architecture_is_the_recorded_one() -> None:
    manifest = json.loads((PARITY_N17 / "manifest_n17_full.json").read_text())
    files = {
        name: manifest[f"{name.removesuffix('.json')}_json"]
        for name in ("config.json", "backbone_config.json")
    }
    assert Gr00tN1d7Config.full_size().to_json_files() == files
    assert Gr00tN1d7Config.full_size().assumed == ()


def test_the_defaults_are_those_of_nvidias_code() -> None:
    manifest = json.loads((PARITY_N17 / "manifest_n17_full.json").read_text())
    recorded = manifest["code_defaults_where_config_json_lacks_a_key"]
    assert recorded.pop("diffusion_model_cfg_num_layers") == DEFAULTS["diffusion_model_cfg"]["num_layers"]
    ours = recorded.keys() & DEFAULTS.keys()
    assert {key: recorded[key] for key in ours} == {key: DEFAULTS[key] for key in ours}
    assert len(ours) == 7
    # The released checkpoint says what differs from them, and nothing of ours contradicts the rest.
    released = manifest["config_json"]
    differ = {key for key in DEFAULTS.keys() & released.keys() if released[key] != DEFAULTS[key]}
    assert differ == {"select_layer", "vl_self_attention_cfg", "diffusion_model_cfg"}


def test_what_a_config_does_not_say_is_assumed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        config = read_config(write(tmp_path, select_layer=16))
    assert isinstance(config, Gr00tN1d7Config)
    assert (config.language.num_layers, config.action_head.dit.num_layers) == (16, 16)
    assert (config.adapter.num_layers, config.adapter.width) == (0, 2048)
    first, second = caplog.messages
    assert first.startswith(
        f"{tmp_path}/config.json does not say all; assumed, as NVIDIA's code does: "
        'model_name "nvidia/Cosmos-Reason2-2B"; '
    )
    assert "diffusion_model_cfg 16 layers (nvidia/GR00T-N1.7-3B has 32 layers)" in first
    assert "vl_self_attention_cfg null (nvidia/GR00T-N1.7-3B has 4 layers)" in first
    assert "select_layer" not in first
    assert second == (
        "Vision tower and language model: those of nvidia/Cosmos-Reason2-2B, which are built in"
    )


def test_another_backbone_needs_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, model_name="Qwen/Qwen3-VL-4B-Instruct")
    with pytest.raises(CheckpointError) as error:
        read_config(tmp_path)
    assert str(error.value) == (
        f'{tmp_path}/config.json: model_name = "Qwen/Qwen3-VL-4B-Instruct": its vision tower and language '
        "model are not known here; known: nvidia/Cosmos-Reason2-2B; copy that model's config.json into "
        f"{tmp_path} as backbone_config.json"
    )
    read_config(write(tmp_path, model_name="/models/Cosmos-Reason2-2B"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("backbone_model_type", "eagle", 'backbone_model_type = "eagle" is not supported; supported: "qwen"'),
        ("strict_action_padding_mask", True, "strict_action_padding_mask = true is not supported"),
        ("reproject_vision", True, "reproject_vision = true is not supported"),
        ("select_layer", 8, "text_config.num_hidden_layers = 7, but select_layer asks for 8"),
        ("select_layer", "5", "select_layer must be an integer >= 1"),
        (
            "backbone_embedding_dim",
            63,
            "backbone_embedding_dim = 63, but the width of the language model is 64",
        ),
        ("state_history_length", 0, "state_history_length must be an integer >= 1, got 0"),
        ("action_horizon", 33, "action_horizon = 33 exceeds the 32 positions of max_seq_len"),
        ("input_embedding_dim", 50, "input_embedding_dim must be 48, heads x head size of the DiT"),
        ("diffusion_model_cfg.output_dim", 39, "diffusion_model_cfg.output_dim must be 40"),
        ("diffusion_model_cfg.norm_type", "layer_norm", 'norm_type = "layer_norm" is not supported'),
        ("diffusion_model_cfg.interleave_self_attention", False, "interleave_self_attention = false is not"),
        (
            "diffusion_model_cfg.cross_attention_dim",
            32,
            "cross_attention_dim = 32, but the width of the backbone",
        ),
        ("vl_self_attention_cfg.num_attention_heads", 5, "vl_self_attention_cfg is 80 wide"),
        ("vl_self_attention_cfg.positional_embeddings", "sinusoidal", "positional_embeddings = "),
        ("attend_text_every_n_blocks", 0, "attend_text_every_n_blocks must be an integer >= 1, got 0"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(path: str, value: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        changed(path, value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_type", "qwen2_5_vl", 'model_type = "qwen2_5_vl" is not supported; supported: "qwen3_vl"'),
        (
            "vision_config.out_hidden_size",
            63,
            "vision_config.out_hidden_size = 63, but the language model is 64",
        ),
        ("vision_config.num_position_embeddings", 35, "num_position_embeddings = 35 is no square"),
        ("vision_config.hidden_size", 50, "vision_config.hidden_size = 50 makes no rotary positions"),
        (
            "vision_config.deepstack_visual_indexes",
            [1, -1],
            "deepstack_visual_indexes must be a list of whole",
        ),
        ("vision_config.hidden_act", "relu", 'vision_config.hidden_act = "relu" is not supported'),
        ("text_config.rope_scaling.mrope_interleaved", False, "mrope_interleaved = false is not supported"),
        ("text_config.rope_scaling.mrope_section", [6, 6], "mrope_section must be three numbers, got [6, 6]"),
        ("text_config.rope_scaling.rope_type", "yarn", 'rope_type = "yarn" is not supported'),
        ("text_config.num_key_value_heads", 3, "num_key_value_heads = 3 does not divide 4 heads"),
        ("image_token_id", 320, "image_token_id = 320 is outside the 320 tokens"),
    ],
)
def test_what_cannot_be_computed_of_the_backbone_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        changed(path, value, "backbone_config.json")


def test_transformers_5_and_4_write_rotary_settings_under_different_names() -> None:
    files = Gr00tN1d7Config.from_folder(TINY).to_json_files()
    text = files["backbone_config.json"]["text_config"]
    text["rope_parameters"] = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    assert Gr00tN1d7Config.from_json_files(files) == Gr00tN1d7Config.from_folder(TINY)


def test_a_model_of_one_family_refuses_a_checkpoint_of_the_other() -> None:
    with pytest.raises(
        CheckpointError, match=r"this is GR00T N1\.7, and GR00T_N1_5 is GR00T N1\.5; .*open_checkpoint opens"
    ):
        GR00T_N1_5.from_pretrained(TINY)
    with pytest.raises(CheckpointError, match=r"this is GR00T N1\.5, and Gr00tN1d7 is GR00T N1\.7"):
        Gr00tN1d7.from_pretrained(PARITY / "tiny_a")
    with pytest.raises(CheckpointError, match='model_type = "Gr00tN1d7" is not supported'):
        Gr00tConfig.from_folder(TINY)


def test_a_checkpoint_is_opened_and_not_yet_served() -> None:
    checkpoint = open_checkpoint(TINY)
    assert checkpoint.source.config == Gr00tN1d7Config.from_folder(TINY)
    with pytest.raises(CheckpointError) as error:
        Gr00tPolicy(checkpoint)
    assert str(error.value) == (
        f"{TINY} is GR00T N1.7, whose observations cannot be prepared here yet; its network can be loaded "
        "(gr00t.model.checkpoints.open_checkpoint) and its layers listed (gr00t-scan)"
    )


def test_reading_a_configuration_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config; "
        "Gr00tN1d7Config.full_size(); "
        "raise SystemExit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
