"""Under which keys an instruction may come. Oracle: GR00T N1.5, which takes any one with "annotation" in its
name and prints it as an array where it came in one, and its standard instruction, which it prints plain.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data import instruction
from gr00t.data.dataset import ModalityConfig
from gr00t.data.errors import ObservationError
from gr00t.data.observation import prepare_observation
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform
from tests.data.recorded import INSTRUCTION, Recorded, libero_config


class Prompts:
    """A tokenizer that remembers what it was given."""

    image_token_id, pad_token_id = 1, 0

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __len__(self) -> int:
        return 10

    def encode(self, text: str) -> list[int]:
        self.texts.append(text.rpartition("</img>")[2].partition("<|im_end|>")[0])
        return [2]


def prompts(
    recorded: Recorded, observation: dict[str, Any], config: dict[str, Any] | None = None
) -> list[str]:
    """What stands in the prompts of an observation's samples."""
    prepared, _ = prepare_observation(
        observation, config or libero_config().modality_config(), recorded.metadata()
    )
    transform, tokenizer = transform_with_prompts(recorded)
    texts = {key: value for key, value in prepared.items() if not key.startswith(("video", "state"))}
    batch = len(prepared["state.x"])
    transform({"video": np.zeros((batch, 1, 1, 8, 8, 3), np.uint8), **texts})
    return tokenizer.texts


def transform_with_prompts(recorded: Recorded) -> tuple[GR00TTransform, Prompts]:
    tokenizer = Prompts()
    transform = GR00TTransform(max_state_dim=64, max_action_dim=32, state_horizon=1, action_horizon=16)
    transform.eval()
    transform.set_metadata(recorded.metadata())
    transform.bind(tokenizer, image_size=8, tokens_per_image=1, image_token_index=1, vocab_size=10)
    return transform, tokenizer


@pytest.mark.parametrize(
    "key",
    [
        INSTRUCTION,
        "annotation.human.task_description",
        "annotation.human.coarse_action",
        "annotation.language.language_instruction",
        "my_annotation",
        "language.instruction",
    ],
)
@pytest.mark.parametrize(
    ("value", "prompt"),
    [
        (["pick up"], "['pick up']"),
        ("pick up", "['pick up']"),
        ([["pick up"]], "['pick up']"),
        (np.array(["pick up"]), "['pick up']"),
        (["the cook's"], '["the cook\'s"]'),
        ([""], "['']"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("configured", [True, False])
def test_the_one_key_with_annotation_is_taken_whatever_the_configuration_says(
    recorded: Recorded, key: str, value: Any, prompt: str, configured: bool
) -> None:
    observation = {**recorded.observation(0), key: value}
    config = libero_config().modality_config()
    if not configured:
        del config["language"]
    assert prompts(recorded, observation, config) == [prompt]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        (np.array(["a", "b", "c"]), ["a", "b", "c"]),
        ([["a"], ["b"], ["c"]], ["['a']", "['b']", "['c']"]),
    ],
    ids=range(3),
)
def test_the_form_in_a_batch_is_the_references(recorded: Recorded, value: Any, expected: list[str]) -> None:
    observation = {**recorded.observation(), "annotation.human.task_description": value}
    assert prompts(recorded, observation) == expected


def test_without_one_the_standard_instruction_is_used_plain_and_said_once(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    assert prompts(recorded, recorded.observation(0)) == ["Perform the default behavior."]
    assert prompts(recorded, recorded.observation()) == ["Perform the default behavior."] * 3
    transform, tokenizer = transform_with_prompts(recorded)
    caplog.clear()
    for _ in range(3):
        transform({"video": np.zeros((1, 1, 1, 8, 8, 3), np.uint8)})
    assert len(tokenizer.texts) == 3
    assert caplog.messages == ["no instruction given: 'Perform the default behavior.' is used, now and later"]


def test_the_configured_key_wins_over_others(recorded: Recorded) -> None:
    observation = {
        **recorded.observation(0),
        "annotation.human.validity": 1,
        "task": "no",
        INSTRUCTION: ["yes"],
    }
    assert prompts(recorded, observation) == ["['yes']"]


def test_a_camera_or_state_is_no_instruction_whatever_its_name() -> None:
    taken = instruction.find_instruction(
        {"video.annotation": 1, "state.annotation": 2, "annotation.x": ["yes"]},
        [],
        ["video.annotation", "state.annotation"],
    )
    assert taken == ("annotation.x", ["yes"])


def test_several_that_could_be_it_are_refused(recorded: Recorded) -> None:
    observation = {**recorded.observation(0), "annotation.a": ["pick"], "annotation.b": ["place"]}
    with pytest.raises(ObservationError) as caught:
        prompts(recorded, observation)
    assert str(caught.value) == (
        f"2 keys could be the instruction: 'annotation.a', 'annotation.b'; send one as '{INSTRUCTION}'"
    )
    language = ModalityConfig(delta_indices=[0], modality_keys=["annotation.a", "annotation.b"])
    with pytest.raises(ObservationError, match="2 keys could be the instruction"):
        prompts(recorded, observation, {**libero_config().modality_config(), "language": language})


@pytest.mark.parametrize("key", ["task", "language", "instruction", "language_instruction", "prompt"])
def test_what_clients_of_other_policies_call_it_is_taken_and_said(
    recorded: Recorded, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    instruction._say_other_name.cache_clear()
    for _ in range(2):
        assert prompts(recorded, {**recorded.observation(0), key: "pick up"}) == ["['pick up']"]
    assert [record.message[:45] for record in caplog.records] == [
        f"the instruction comes as {key!r} and is taken; NVIDIA's"[:45]
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_two_such_names_are_refused(recorded: Recorded) -> None:
    with pytest.raises(ObservationError, match="2 keys could be the instruction: 'task', 'prompt'"):
        prompts(recorded, {**recorded.observation(0), "prompt": "a", "task": "b"})


@pytest.mark.parametrize("key", ["anotation.human.task_description", "lang", "state.text", 5])
def test_a_text_under_a_name_that_nobody_knows_is_not_dropped(recorded: Recorded, key: Any) -> None:
    with pytest.raises(ObservationError) as caught:
        prompts(recorded, {**recorded.observation(0), key: ["pick up"]})
    assert str(caught.value) == (
        f"no instruction in the observation, but text as '{key}'; send the instruction as '{INSTRUCTION}', "
        "or no text at all for the standard instruction"
    )


def test_the_standard_instruction_may_be_ones_own(recorded: Recorded) -> None:
    transform, tokenizer = transform_with_prompts(recorded)
    transform.default_instruction = "Tidy up."
    transform({"video": np.zeros((1, 1, 1, 8, 8, 3), np.uint8)})
    assert tokenizer.texts == ["Tidy up."]


def test_frames_that_no_step_made_bytes_are_refused(recorded: Recorded) -> None:
    transform, _ = transform_with_prompts(recorded)
    with pytest.raises(
        ObservationError, match=r"expected dtype uint8, .* gave float32; end them with VideoToNumpy"
    ):
        transform({"video": torch.zeros(1, 1, 1, 8, 8, 3).numpy()})
