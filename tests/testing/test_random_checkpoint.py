"""Oracles: NVIDIA's file layout as the loader checks it, and the same bytes from the same seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.model.preprocessing.tokenizer import load_tokenizer
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import plan
from gr00t.testing.random_checkpoint import small_config, write_random_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("random"))


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_gives_the_same_bytes_and_another_seed_other_weights(
    checkpoint: Path, tmp_path: Path
) -> None:
    again, other = (
        contents(write_random_checkpoint(tmp_path / "a")),
        contents(write_random_checkpoint(tmp_path / "b", seed=1)),
    )
    assert contents(checkpoint) == again
    assert {name for name in again if again[name] != other[name]} == {"model-00001-of-00001.safetensors"}


def test_loads_strictly_and_stays_finite(checkpoint: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint, torch_dtype=torch.float32)
    values = torch.cat([parameter.flatten() for parameter in model.parameters()])
    assert torch.isfinite(values).all()
    # 5.6 million weights of 1/sqrt(fan in), norms near 1: 0.12 measured.
    assert 0.05 < values.std().item() < 0.3


def test_the_documented_settings_select_its_llm_and_dit_mlp_layers(checkpoint: Path) -> None:
    model = GR00T_N1_5.on_meta(Gr00tConfig.from_folder(checkpoint))
    plans = plan(model, DEFAULTS.scheme, DEFAULTS.layer_filter, aliases=module_aliases(model))
    names = [layer.name for layer in plans if layer.spec is not None]
    # 2 decoder layers x 7, 4 DiT layers x 2.
    assert len(names) == 2 * 7 + 4 * 2
    assert sum(name.startswith("backbone.language_model.layers.") for name in names) == 14


def test_its_tokenizer_writes_any_text_and_keeps_special_tokens_whole(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    config = json.loads((checkpoint / "eagle_config.json").read_text())
    assert tokenizer is not None
    assert tokenizer.image_token_id == config["image_token_index"]
    assert len(tokenizer) == config["text_config"]["vocab_size"]
    assert tokenizer.encode("<img><IMG_CONTEXT></img>") == [
        tokenizer.encode("<img>")[0],
        tokenizer.image_token_id,
        tokenizer.encode("</img>")[0],
    ]
    assert (
        tokenizer._tokenizer.decode(tokenizer.encode("put the café's \n bowl 盘子"))
        == "put the café's \n bowl 盘子"
    )


def test_a_policy_acts_with_it_and_the_action_depends_on_every_input(checkpoint: Path) -> None:
    data = LiberoDataConfig()
    policy = Gr00tPolicy(
        checkpoint, "new_embodiment", data.modality_config(), data.transform(), 2, "cpu", environ={}
    )
    rng = np.random.default_rng(0)
    observation = {
        "video.image": rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8),
        "video.wrist_image": rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8),
        "annotation.human.action.task_description": ["put the milk in the basket"],
        **{f"state.{key}": np.full((1, 1), 0.1) for key in ("x", "y", "z", "roll", "pitch", "yaw")},
        "state.gripper": np.array([[0.02, -0.02]]),
    }
    action = policy.get_action(observation, seeds=1)
    keys = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert {key: value.shape for key, value in action.items()} == {f"action.{key}": (16, 1) for key in keys}
    other_image = observation | {"video.image": 255 - observation["video.image"]}
    other_text = observation | {"annotation.human.action.task_description": ["open the drawer"]}
    other_state = observation | {"state.x": np.full((1, 1), -0.5)}
    for changed in (other_image, other_text, other_state):
        assert not np.array_equal(policy.get_action(changed, seeds=1)["action.x"], action["action.x"])
    assert np.array_equal(policy.get_action(observation, seeds=1)["action.x"], action["action.x"])


def test_sizes_are_checked() -> None:
    assert small_config(layers=1, width=64).language.hidden_size == 64
    with pytest.raises(TypeError, match="unknown sizes: depth; known: layers, width, image_token_index"):
        small_config(depth=3)


def test_an_architecture_of_the_callers_comes_without_a_tokenizer(tmp_path: Path) -> None:
    config = small_config(layers=1, width=32, vocab_size=64)
    folder = write_random_checkpoint(tmp_path, config, torch_dtype=torch.float32)
    assert not (folder / "tokenizer.json").exists()
    assert GR00T_N1_5.from_pretrained(folder).config == config
