"""Requests that do not fit the model are refused by name, before anything is computed.

Oracle: the text of the message.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gr00t.model.inputs import ModelInputs
from tests.model.parity_set import PARITY, ParitySet

TINY = ParitySet.load(PARITY / "tiny_a")


def refused(message: str, **changes: object) -> None:
    inputs = {**TINY.inputs(1), **changes}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the text is compared below)
        TINY.model.get_action(inputs)
    assert str(error.value) == message


def test_missing_key() -> None:
    refused(
        "state is missing from the model's inputs; got eagle_attention_mask, eagle_input_ids, "
        "eagle_pixel_values, embodiment_id",
        state=None,
    )


def test_shapes() -> None:
    refused("state: expected shape (1, steps, 64), got (1, 1, 8)", state=torch.zeros(1, 1, 8))
    refused("state: expected shape (1, steps, 64), got (2, 1, 64)", state=torch.zeros(2, 1, 64))
    refused(
        "eagle_pixel_values: expected shape (images, 3, 56, 56), got (2, 3, 224, 224)",
        eagle_pixel_values=torch.zeros(2, 3, 224, 224),
    )
    refused(
        "eagle_attention_mask: expected shape (1, 49), got (1, 48)",
        eagle_attention_mask=torch.ones(1, 48, dtype=torch.int64),
    )
    refused("embodiment_id: expected shape (1), got ()", embodiment_id=torch.tensor(31))
    refused(
        "eagle_input_ids: expected shape (batch, tokens), got (0, 5)",
        eagle_input_ids=torch.zeros(0, 5).long(),
    )


def test_ids_outside_the_tables() -> None:
    ids = TINY.inputs(1)["eagle_input_ids"]
    refused(
        "eagle_input_ids: 320 is outside 0..319", eagle_input_ids=ids.index_fill(1, torch.tensor([0]), 320)
    )
    refused("eagle_input_ids: -1 is outside 0..319", eagle_input_ids=ids.index_fill(1, torch.tensor([0]), -1))
    refused("embodiment_id: 32 is outside 0..31", embodiment_id=torch.tensor([32]))
    refused("embodiment_id: expected integers, got torch.float32", embodiment_id=torch.tensor([31.0]))


def test_image_tokens_that_do_not_fit_the_images() -> None:
    refused(
        "eagle_input_ids: [32] image tokens (id 300) in the samples do not fit 1 images of 16 tokens each",
        eagle_pixel_values=torch.zeros(1, 3, 56, 56),
    )
    # The sum fits, but one sample would take tokens of the other's image.
    inputs = TINY.inputs(3)
    ids = inputs["eagle_input_ids"]
    text, image = (ids[1] != 300).nonzero()[-1], (ids[0] == 300).nonzero()[0]
    ids[1, text], ids[0, image] = 300, 5
    with pytest.raises(ValueError, match=r"\[31, 33, 32\] image tokens .* do not fit 6 images of 16"):
        TINY.model.get_action(inputs)


def test_a_sample_without_any_token() -> None:
    refused(
        "eagle_attention_mask: samples [0] have no token at all",
        eagle_attention_mask=torch.zeros(1, 49, dtype=torch.int64),
    )


def test_noise_and_seeds() -> None:
    inputs = TINY.inputs(1)
    with pytest.raises(ValueError, match=r"noise: expected shape \(1, 16, 32\), got \(1, 16, 7\)"):
        TINY.model.get_action(inputs, noise=torch.zeros(1, 16, 7))
    with pytest.raises(ValueError, match=r"seeds: expected one per sample \(1\), got 2"):
        TINY.model.get_action(inputs, seeds=[1, 2])
    with pytest.raises(ValueError, match="noise and seeds exclude each other"):
        TINY.model.get_action(inputs, noise=torch.zeros(1, 16, 32), seeds=[1])


@pytest.mark.parametrize("steps", [0, -1, 2.5, None, True])
def test_denoising_steps_that_are_none(steps: object) -> None:
    TINY.model.action_head.num_inference_timesteps = steps
    try:
        with pytest.raises(
            ValueError, match=f"num_inference_timesteps must be an integer >= 1, got {steps!r}"
        ):
            TINY.model.get_action(TINY.inputs(1))
    finally:
        TINY.model.action_head.num_inference_timesteps = 4


def test_other_inputs_and_dtypes_are_taken_as_the_reference_takes_them() -> None:
    expected = TINY.act(1)
    inputs = {
        **TINY.inputs(1),
        "eagle_image_sizes": torch.tensor([[56, 56]]),
        "state_mask": torch.ones(1, 1, 64).bool(),
        "state": TINY.inputs(1)["state"].double(),
        "eagle_attention_mask": TINY.inputs(1)["eagle_attention_mask"].bool(),
        "embodiment_id": TINY.inputs(1)["embodiment_id"].int(),
    }
    assert torch.equal(TINY.model.get_action(inputs, noise=TINY.noise(1))["action_pred"], expected)


def test_joined_requests_are_padded_on_the_left_and_masked() -> None:
    """Oracle: rows written out by hand. Where nothing is padded there is no mask; one alone stays."""
    samples = ModelInputs.from_mapping(TINY.inputs(3), TINY.model.config)
    first, second = samples.part(0, 1), samples.part(1, 3)
    longer = torch.nn.functional.pad(second.input_ids, (2, 0), value=7)
    second = dataclasses.replace(second, input_ids=longer, valid=None)
    joined = ModelInputs.cat([first, second], pad_token_id=9)
    assert joined.input_ids.tolist() == [[9, 9, *first.input_ids[0].tolist()], *longer.tolist()]
    assert joined.valid is not None
    own = first.mask()[0].tolist()
    assert joined.valid.tolist() == [[False, False, *own], *[[True] * longer.shape[1]] * 2]
    assert torch.equal(joined.pixel_values, samples.pixel_values)
    assert torch.equal(joined.state, samples.state)
    assert torch.equal(joined.embodiment, samples.embodiment)
    assert ModelInputs.cat([first], 9) is first
    assert ModelInputs.cat([second, second], 9).valid is None
