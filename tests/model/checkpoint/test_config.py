"""Reading config.json and eagle_config.json: published values, the reference's defaults, what is refused.

Oracles: NVIDIA's published config.json, the defaults of NVIDIA's code, and the text of each message.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gr00t.model.checkpoint.config import CheckpointError, Gr00tConfig
from tests.model.parity_set import PARITY

HEAD = "action_head_cfg"
DIT = f"{HEAD}.diffusion_model_cfg"


def tiny_files() -> dict[str, dict[str, Any]]:
    return Gr00tConfig.from_folder(PARITY / "tiny_a").to_json_files()


def changed(path: str, value: object, file: str = "config.json") -> Gr00tConfig:
    """The tiny configuration with one key set, or removed where `value` is `...`."""
    files = tiny_files()
    section, (*parents, key) = files[file], path.split(".")
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[key]
    else:
        section[key] = value
    return Gr00tConfig.from_json_files(files)


def test_the_built_in_architecture_is_nvidias() -> None:
    config = Gr00tConfig.full_size()
    assert (config.action_dim, config.action_horizon, config.max_state_dim) == (32, 16, 64)
    assert (config.num_embodiments, config.num_inference_timesteps) == (32, 4)
    assert (config.image_size, config.tokens_per_image) == (224, 256)
    assert (config.image_token_index, config.vocab_size) == (151669, 151680)
    assert (config.language.num_layers, config.language.rope_theta) == (12, 1e6)
    assert (config.adapter.num_layers, config.adapter.width) == (4, 2048)
    assert (config.action_head.dit.num_layers, config.action_head.dit.width) == (16, 1536)
    assert config.projector_dim is None


def test_a_folder_without_eagle_config_gets_the_full_size_one(tmp_path: Path) -> None:
    source = PARITY / "tiny_a" / "config.json"
    (tmp_path / "config.json").write_text(source.read_text())
    # The tiny head does not fit the full-size backbone, which shows which one was taken.
    with pytest.raises(
        CheckpointError, match="_embedding_dim = 64, but the width of the backbone's output is 2048"
    ):
        Gr00tConfig.from_folder(tmp_path)


def test_json_files_round_trip() -> None:
    files = tiny_files()
    assert Gr00tConfig.from_json_files(files).to_json_files() == files


def test_what_other_checkpoints_vary_is_read() -> None:
    head = f"{HEAD}."
    assert changed(f"{head}max_num_embodiments", 9).num_embodiments == 9
    assert changed(f"{head}num_timestep_buckets", 777).action_head.num_timestep_buckets == 777
    assert changed(f"{head}max_seq_len", 16).action_head.max_seq_len == 16
    assert changed(f"{head}add_pos_embed", False).action_head.max_seq_len is None
    assert changed(f"{head}use_vlln", False).adapter is None
    assert changed(f"{DIT}.norm_eps", 1e-3).action_head.dit.mlp_norm_eps == 1e-3
    assert changed(f"{DIT}.interleave_self_attention", False).action_head.dit.interleave is False
    assert changed("backbone_cfg.project_to_dim", 64).projector_dim == 64
    eagle = "eagle_config.json"
    assert changed("vision_config.layer_norm_eps", 1e-5, eagle).vision.layer_norm_eps == 1e-5
    assert changed("text_config.rms_norm_eps", 1e-5, eagle).language.rms_norm_eps == 1e-5
    assert changed("text_config.rope_theta", 5e5, eagle).language.rope_theta == 5e5
    rope = {"rope_type": "default", "rope_theta": 2e6}
    assert changed("text_config.rope_parameters", rope, eagle).language.rope_theta == 2e6


def test_absent_keys_take_the_defaults_of_the_reference() -> None:
    config = changed(f"{HEAD}.use_vlln", ...)
    assert config.adapter is not None
    assert (config.num_embodiments, config.action_head.max_seq_len) == (32, 1024)
    assert changed(f"{DIT}.interleave_self_attention", ...).action_head.dit.interleave is False
    assert changed("text_config.rope_theta", ..., "eagle_config.json").language.rope_theta == 10000.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_type", "gr00t_n1", '= "gr00t_n1" is not supported; supported: "gr00t_n1_5"'),
        (f"{DIT}.norm_type", "layer_norm", '= "layer_norm" is not supported; supported: "ada_norm"'),
        (f"{DIT}.positional_embeddings", "sinusoidal", '= "sinusoidal" is not supported; supported: null'),
        (
            f"{DIT}.positional_embeddings",
            ...,
            '= "sinusoidal" (absent, so the default of the reference holds) is not supported; '
            "supported: null",
        ),
        (
            f"{DIT}.activation_fn",
            "geglu",
            '= "geglu" is not supported; supported: "gelu-approximate", "gelu"',
        ),
        (f"{DIT}.output_dim", 48, "= 48, but action_head_cfg.hidden_size, which the decoder reads, is 40"),
        (f"{DIT}.cross_attention_dim", 32, "= 32, but the backbone's width is 64"),
        (f"{HEAD}.input_embedding_dim", 64, "must be 48, heads x head size of the DiT"),
        (f"{HEAD}.action_horizon", ..., "must be an integer >= 1, got nothing"),
        (f"{HEAD}.max_num_embodiments", 2.5, "must be an integer >= 1, got 2.5"),
        (f"{HEAD}.use_vlln", 1, "must be true or false, got 1"),
        (f"{HEAD}.vl_self_attention_cfg", None, "must be an object, got None"),
        ("backbone_cfg.reproject_vision", True, "= true is not supported; supported: false"),
        ("backbone_cfg.select_layer", 0, "must be an integer >= 1, got 0"),
    ],
)
def test_config_json_is_refused_by_name(path: str, value: object, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        changed(path, value)
    assert str(error.value) == f"config.json: {path} {message}"


def test_contradictions_name_both_sides() -> None:
    with pytest.raises(CheckpointError) as error:
        changed(f"{HEAD}.action_horizon", 8)
    assert str(error.value) == "config.json: action_horizon = 16, but action_head_cfg.action_horizon is 8"
    with pytest.raises(CheckpointError) as error:
        changed(f"{HEAD}.max_seq_len", 15)
    assert (
        str(error.value) == f"config.json: {HEAD}.action_horizon = 16 exceeds the 15 positions of max_seq_len"
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("use_pixel_shuffle", True, "= true is not supported; supported: false"),
        ("mlp_connector_layers", 2, "= 2 is not supported; supported: 1"),
        ("select_layer", -2, "= -2 is not supported; supported: -1"),
        ("use_llm_lora", 64, "= 64 is not supported; supported: 0, null"),
        ("force_image_size", 112, "= 112, but vision_config.image_size is 56"),
        ("image_token_index", 320, "= 320 is outside the 320 tokens"),
        ("vision_config.model_type", "radio", '= "radio" is not supported; supported: "siglip_vision_model"'),
        ("text_config.model_type", "qwen2", '= "qwen2" is not supported; supported: "qwen3"'),
        ("text_config.rope_scaling", {"factor": 2}, '= {"factor": 2} is not supported; supported: null'),
        ("text_config.use_sliding_window", True, "= true is not supported; supported: false"),
        ("text_config.num_hidden_layers", 2, "= 2, but select_layer asks for 3"),
        ("text_config.rms_norm_eps", 0, "must be a positive number, got 0"),
    ],
)
def test_eagle_config_is_refused_by_name(path: str, value: object, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        changed(path, value, "eagle_config.json")
    assert str(error.value) == f"eagle_config.json: {path} {message}"


def test_no_checkpoint_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a GR00T checkpoint: it has no config\.json"):
        Gr00tConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"action_dim": 32,')
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON \(Expecting property name"):
        Gr00tConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON object, got list"):
        Gr00tConfig.from_folder(tmp_path)


def test_reading_a_configuration_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from gr00t.model.checkpoint.config import Gr00tConfig; Gr00tConfig.full_size(); "
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
