"""Noise and dropout of states and of instructions. Oracles: the normal and the binomial distribution."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.errors import ObservationError, TransformError
from gr00t.data.transform.base import ModalityTransform
from gr00t.data.transform.state_action import StateActionDropout, StateActionPerturbation
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform
from tests.data.recorded import Recorded

KEY, OTHER = "state.arm", "state.hand"


def test_noise_has_its_deviation_and_ends_where_the_samples_numbers_end() -> None:
    torch.manual_seed(0)
    value = torch.tensor([-1.0, 0.0, 0.2, 1.0]).expand(20_000, 1, 4)
    out = StateActionPerturbation(apply_to=[KEY], std=0.1)({KEY: value})[KEY]
    middle = (out - value)[:, 0, 1:3]
    # Four standard deviations of an estimated deviation, 4 * 0.1 / sqrt(2 * 40000), and of a mean.
    assert abs(middle.std() - 0.1) < 0.0015
    assert abs(middle.mean()) < 0.002
    assert (out.min(), out.max()) == (-1.0, 1.0)
    assert value[0, 0].tolist() == pytest.approx([-1.0, 0.0, 0.2, 1.0])  # only read
    # At the ends half of the noise is cut off; four standard deviations, 4 sqrt(0.5 * 0.5 / 20000).
    assert abs((out[:, 0, 3] == 1.0).float().mean() - 0.5) < 0.0142


def test_a_single_number_stays_and_is_told_about(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    transform = StateActionPerturbation(apply_to=["state.x", "state.gripper"], std=0.1)
    with caplog.at_level(logging.WARNING):
        transform.set_metadata(recorded.metadata())
    assert "at a single time step state.x stay without noise" in caplog.text
    value = torch.full((5, 1, 1), 0.3)
    assert torch.equal(transform({"state.x": value, "state.gripper": value})["state.x"], value)


def test_dropout_blanks_all_keys_of_a_sample_as_often_as_asked() -> None:
    torch.manual_seed(0)
    data = {KEY: torch.ones(4000, 2, 3), OTHER: torch.ones(4000, 2, 1)}
    out = StateActionDropout(apply_to=[KEY, OTHER], dropout_prob=0.25)(dict(data))
    gone = (out[KEY] == 0).flatten(1)
    assert (gone.all(1) == gone.any(1)).all()
    assert torch.equal(gone[:, 0], out[OTHER][:, 0, 0] == 0)
    # Four standard deviations: 4 sqrt(0.25 * 0.75 / 4000).
    assert abs(gone[:, 0].float().mean() - 0.25) < 0.028
    single = StateActionDropout(apply_to=[KEY], dropout_prob=1.0)({KEY: torch.ones(2, 3)})[KEY]
    assert single.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("transform", "identity"),
    [
        (StateActionPerturbation(apply_to=[KEY], std=-1), True),
        (StateActionPerturbation(apply_to=[KEY], std=0), True),
        (StateActionDropout(apply_to=[KEY], dropout_prob=-1), True),
        (StateActionDropout(apply_to=[KEY], dropout_prob=1), False),
        (StateActionPerturbation(apply_to=[KEY], std=1), False),
    ],
)
def test_what_is_off_draws_nothing_and_eval_mode_is_an_identity(
    transform: ModalityTransform, identity: bool
) -> None:
    value = torch.arange(1.0, 7.0).reshape(1, 2, 3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(transform({KEY: value})[KEY], value) == identity
    assert torch.equal(torch.get_rng_state(), before) == identity
    transform.eval()
    assert torch.equal(transform({KEY: value})[KEY], value)
    transform.train()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            StateActionDropout,
            {"dropout_prob": 1.5},
            "dropout_prob: expected a probability from 0 to 1, or a n",
        ),
        (StateActionPerturbation, {"std": float("inf")}, "std: expected a number from 0, or a negative one"),
        (StateActionPerturbation, {"std": 1, "sdt": 1}, "sdt: no such field; did you mean std"),
        (
            GR00TTransform,
            {"max_state_dim": 64, "max_action_dim": 32, "state_horizon": 1, "action_horizon": 0},
            "GR00TTransform: action_horizon: Input should be greater than 0, got 0",
        ),
    ],
)
def test_values_outside_the_range_are_refused(
    kind: type[ModalityTransform], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(TransformError, match=message):
        kind(apply_to=[KEY], **fields)


def test_a_missing_key_and_an_array_are_named() -> None:
    transform = StateActionDropout(apply_to=[KEY], dropout_prob=0.5)
    with pytest.raises(ObservationError, match=r"no 'state.arm' in the sample; did you mean state.arms"):
        transform({"state.arms": torch.ones(1, 1)})
    with pytest.raises(ObservationError, match=r"state.arm: random changes come after StateActionToTensor"):
        transform({KEY: np.ones((1, 1))})


class _Echo:
    """A tokenizer of one token a prompt, which remembers the prompts."""

    image_token_id, pad_token_id = 0, 1

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __len__(self) -> int:
        return 2

    def encode(self, text: str) -> list[int]:
        self.prompts.append(text)
        return [1]


def prompts_of(count: int, training: bool, **fields: Any) -> list[str]:
    """The instructions in the prompts of `count` samples, all of them told "Pick up the Cup!"."""
    transform = GR00TTransform(
        max_state_dim=4, max_action_dim=4, state_horizon=1, action_horizon=1, training=training, **fields
    )
    transform.embodiment_tag = EmbodimentTag.NEW_EMBODIMENT
    echo = _Echo()
    transform.bind(echo, image_size=2, tokens_per_image=1, image_token_index=0, vocab_size=2)
    transform(
        {
            "video": np.zeros((count, 1, 1, 2, 2, 3), dtype=np.uint8),
            "annotation.task": np.full((count, 1), "Pick up the Cup!"),
            "action": torch.zeros(count, 1, 1),
        }
    )
    return [prompt.split("</img>")[1].split("<|im_end|>")[0] for prompt in echo.prompts]


def test_instructions_are_left_out_as_often_as_asked_in_training_only() -> None:
    torch.manual_seed(0)
    texts = prompts_of(1000, True, language_dropout_prob=0.4)
    default = "Perform the default behavior."
    assert set(texts) == {"['Pick up the Cup!']", default}
    # Four standard deviations: 4 sqrt(0.4 * 0.6 / 1000).
    assert abs(texts.count(default) / 1000 - 0.4) < 0.062
    assert set(prompts_of(20, False, language_dropout_prob=1.0)) == {"['Pick up the Cup!']"}
    assert set(prompts_of(20, True, language_dropout_prob=-1)) == {"['Pick up the Cup!']"}


@pytest.mark.parametrize("training", [True, False])
def test_formalized_instructions_are_lower_case_without_punctuation(training: bool) -> None:
    assert prompts_of(2, training, formalize_language=True) == ["['pick up the cup']"] * 2
