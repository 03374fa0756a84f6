"""A groot folder of lerobot, served. Oracle: lerobot's rules, written out here in numpy and as plain text.

`processor_groot` of lerobot 0.4.0 and 0.4.4 gave the same numbers bit for bit when it was run beside this
(docs/LEROBOT.md says what was compared).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.data.errors import ObservationError
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.policy import Gr00tPolicy
from gr00t.testing.synthetic import synthetic_observation
from tests.model.lerobot.groot_folder import ACTION_DIM, STATE_DIM, statistics, write_groot_folder

STATISTICS = {name: value.numpy() for name, value in statistics().items()}
INSTRUCTION = "annotation.human.action.task_description"


@pytest.fixture(scope="module")
def groot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot")
    return write_groot_folder(folder / "groot", folder / "base")


@pytest.fixture(scope="module")
def policy(groot: Path) -> Gr00tPolicy:
    return serve(groot)


def serve(folder: Path, **options: object) -> Gr00tPolicy:
    settings = {"device": "cpu", "torch_dtype": torch.float32, "denoising_steps": 1, "environ": {}}
    return Gr00tPolicy(folder, **(settings | options))


def observation(seed: int = 0) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    return {
        "video.wrist": rng.integers(0, 256, (1, 60, 80, 3), dtype=np.uint8),
        "video.front": rng.integers(0, 256, (1, 48, 64, 3), dtype=np.uint8),
        "state.state": rng.normal(0, 2, (1, STATE_DIM)),
        INSTRUCTION: ["put the bowl on the plate"],
    }


def normalized(values: np.ndarray, key: str) -> np.ndarray:
    """lerobot's min-max over the whole vector, in float32; 0 where it never moved."""
    low, high = STATISTICS[f"{key}.min"], STATISTICS[f"{key}.max"]
    span = high - low
    scaled = np.float32(2) * (values.astype(np.float32) - low) / np.where(span != 0, span, np.float32(1)) - 1
    return np.where(span != 0, scaled, np.float32(0)).astype(np.float32)


def in_robots_units(predicted: np.ndarray) -> np.ndarray:
    """lerobot's inverse for (H, 32) predicted actions."""
    low, high = STATISTICS["action.min"], STATISTICS["action.max"]
    span = high - low
    first = predicted[:, :ACTION_DIM]
    scaled = (first + np.float32(1)) * np.float32(0.5) * np.where(span != 0, span, np.float32(1)) + low
    return np.where(span != 0, scaled, low)


def prompt(text: str) -> str:
    """Images before text, the text printed as a list of one."""
    patches = "<IMG_CONTEXT>" * 16
    images = f"<image 1><img>{patches}</img><image 2><img>{patches}</img>"
    return (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{images}{[text]}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_observation_becomes_what_lerobot_makes_of_it(policy: Gr00tPolicy, groot: Path) -> None:
    from tokenizers import Tokenizer

    Image = pytest.importorskip("PIL.Image")  # noqa: N806 (Pillow's name for its module)
    sent = observation()
    inputs = policy.prepare(sent, seeds=1).inputs
    state = inputs.state.numpy()
    assert state.dtype == np.float32
    assert np.array_equal(state[0, 0, :STATE_DIM], normalized(sent["state.state"][0], "observation.state"))
    assert not state[0, 0, STATE_DIM:].any()
    assert inputs.embodiment.tolist() == [31]
    ids = Tokenizer.from_file(str(groot / "tokenizer.json")).encode(prompt("put the bowl on the plate"))
    assert inputs.input_ids.tolist() == [ids.ids]
    # Pillow's own bicubic filter, whose arithmetic torch's for uint8 is modelled on; front before wrist.
    for pixels, key in zip(inputs.pixel_values, ("video.front", "video.wrist"), strict=True):
        resized = Image.fromarray(sent[key][0]).resize((224, 224), Image.Resampling.BICUBIC)
        levels = pixels.permute(1, 2, 0).numpy() * 127.5 + 127.5
        away = np.abs(levels - np.asarray(resized, dtype=np.float32))
        assert away.max() < 2.01  # of 255; a filter in floating point is up to 22 away, a linear one 90
        assert away.mean() < 0.05


def test_actions_come_back_in_the_robots_units(policy: Gr00tPolicy) -> None:
    prepared = policy.prepare(observation(), seeds=5)
    predicted = policy.model.get_action(prepared.inputs, noise=prepared.noise)["action_pred"][0].numpy()
    actions = policy.get_action(observation(), seeds=5)
    assert [*actions] == ["action.action"]
    assert actions["action.action"].shape == (16, ACTION_DIM)
    assert np.array_equal(actions["action.action"], in_robots_units(predicted))
    assert (actions["action.action"][:, 2] == STATISTICS["action.min"][2]).all()


@pytest.mark.parametrize("sent", [None, "", [""]])
def test_without_an_instruction_lerobots_own_is_used(policy: Gr00tPolicy, sent: object) -> None:
    plain = {**observation(), INSTRUCTION: ["Perform the task."]}
    without = {key: value for key, value in plain.items() if key != INSTRUCTION}
    if sent is not None:
        without[INSTRUCTION] = sent
    expected = policy.prepare(plain, seeds=1).inputs.input_ids
    assert torch.equal(policy.prepare(without, seeds=1).inputs.input_ids, expected)


@pytest.mark.parametrize("key", ["annotation.human.task_description", "instruction", "language_instruction"])
def test_an_instruction_beside_lerobots_own_keys_is_not_dropped(policy: Gr00tPolicy, key: str) -> None:
    ours = observation()
    theirs = {
        "observation.images.front": ours["video.front"][0],
        "observation.images.wrist": ours["video.wrist"][0],
        "observation.state": ours["state.state"][0],
        "robot_type": "so100",
        key: "put the bowl on the plate",
    }
    expected = policy.prepare(ours, seeds=1).inputs.input_ids
    assert torch.equal(policy.prepare(theirs, seeds=1).inputs.input_ids, expected)
    theirs["order"] = theirs.pop(key)
    with pytest.raises(ObservationError, match="no instruction in the observation, but text as 'order'"):
        policy.prepare(theirs)


def test_lerobots_own_keys_are_understood(policy: Gr00tPolicy) -> None:
    ours = observation()
    theirs = {
        "observation.images.front": ours["video.front"][0],
        # As lerobot's pipelines have it: colours first, from 0 to 1.
        "observation.images.wrist": (ours["video.wrist"][0].transpose(2, 0, 1) / 255).astype(np.float32),
        "observation.state": ours["state.state"][0],
        "task": ours[INSTRUCTION][0],
    }
    expected = policy.get_action(ours, seeds=2)["action.action"]
    assert np.array_equal(policy.get_action(theirs, seeds=2)["action.action"], expected)
    batch = {key: np.stack([value] * 2) for key, value in theirs.items() if key != "task"}
    alone = policy.prepare(theirs, seeds=2).inputs
    for task in (theirs["task"], [theirs["task"]] * 2):
        both = policy.prepare({**batch, "task": task}, seeds=2)
        assert both.samples == 2
        for key in ("state", "input_ids", "pixel_values"):
            assert torch.equal(getattr(both.inputs, key), torch.cat([getattr(alone, key)] * 2))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"observation.state": None}, "no 'observation.state' in the observation"),
        ({"observation.images.wrist": None}, "no 'observation.images.wrist' in the observation"),
        ({"observation.state": np.zeros(7)}, "observation.state: expected 8 numbers, got 7"),
        (
            {"observation.images.front": np.zeros((48, 64), np.uint8)},
            "observation.images.front: expected sha",
        ),
        (
            {"observation.images.front": np.full((48, 64, 3), 2.0)},
            "expected uint8, or floating-point numbers",
        ),
        ({"video.front": np.zeros((1, 48, 64, 3), np.uint8)}, "keys of two kinds: 'video.front' beside"),
    ],
)
def test_lerobots_own_keys_in_another_form_are_refused(
    policy: Gr00tPolicy, change: dict[str, object], text: str
) -> None:
    sent = {
        "observation.images.front": np.zeros((48, 64, 3), np.uint8),
        "observation.images.wrist": np.zeros((60, 80, 3), np.uint8),
        "observation.state": np.zeros(8),
    }
    sent = {key: value for key, value in (sent | change).items() if value is not None}
    with pytest.raises(ObservationError) as error:
        policy.get_action(sent)
    assert text in str(error.value)


def test_a_robot_with_the_keys_of_libero_drives_it(policy: Gr00tPolicy, groot: Path) -> None:
    data = LiberoDataConfig()
    libero = serve(groot, modality_config=data.modality_config(), modality_transform=data.transform())
    sent = observation(3)
    state = sent["state.state"]
    names = ["x", "y", "z", "roll", "pitch", "yaw"]
    same = {
        "video.image": sent["video.front"],
        "video.wrist_image": sent["video.wrist"],
        **{f"state.{name}": state[:, place : place + 1] for place, name in enumerate(names)},
        "state.gripper": state[:, 6:],
        INSTRUCTION: sent[INSTRUCTION],
    }
    actions = libero.get_action(same, seeds=4)
    assert [*actions] == [f"action.{name}" for name in [*names, "gripper"]]
    joined = np.concatenate([*actions.values()], axis=-1)
    assert np.array_equal(joined, policy.get_action(sent, seeds=4)["action.action"])
    random = synthetic_observation(libero.modality_config, libero.metadata, "open it", 1)
    assert libero.prepare(random, seeds=1).inputs.state.shape == (1, 1, 64)


def test_a_chunk_of_fewer_actions_is_the_beginning_of_the_models(
    policy: Gr00tPolicy, groot: Path, tmp_path: Path
) -> None:
    shorter = shutil.copytree(groot, tmp_path / "short")
    config = json.loads((shorter / "config.json").read_text())
    (shorter / "config.json").write_text(json.dumps({**config, "chunk_size": 8, "n_action_steps": 8}))
    eight = serve(shorter)
    assert len(eight.modality_config["action"].delta_indices) == 8
    expected = policy.get_action(observation(), seeds=6)["action.action"]
    assert np.array_equal(eight.get_action(observation(), seeds=6)["action.action"], expected[:8])


def test_weights_are_the_base_models_by_other_names(policy: Gr00tPolicy, groot: Path) -> None:
    base = GR00T_N1_5.from_pretrained(groot.parent / "base").state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in policy.model.state_dict().items())


def test_weights_half_by_lerobots_names_are_refused(groot: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(groot, tmp_path / "mixed")
    tensors = load_file(copy / "model.safetensors")
    first = next(iter(tensors))
    tensors[first.removeprefix("_groot_model.")] = tensors.pop(first)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"weights are named _groot_model\.NAME, as lerobot does, and 1 are not: acti"
    ):
        GR00T_N1_5.from_pretrained(copy)
