"""Padding: it must not be seen, and nothing it holds may spoil the rest.

Oracle: the same sample without padding, by the same model (and by the reference, in test_parity.py).
"""

from __future__ import annotations

import pytest
import torch

from gr00t.model.network.attention import causal_mask
from tests.model.parity_set import ACTION_TOLERANCE, ParitySet


def alone(parity: ParitySet, sample: int) -> dict[str, torch.Tensor]:
    """One sample of the recorded batch of three, its padding cut off."""
    batch = parity.inputs(3)
    valid = batch["eagle_attention_mask"][sample].bool()
    images = len(batch["eagle_pixel_values"]) // 3
    return {
        "eagle_pixel_values": batch["eagle_pixel_values"][sample * images : (sample + 1) * images],
        "eagle_input_ids": batch["eagle_input_ids"][sample : sample + 1, valid],
        "eagle_attention_mask": batch["eagle_attention_mask"][sample : sample + 1, valid],
        "state": batch["state"][sample : sample + 1],
        "embodiment_id": batch["embodiment_id"][sample : sample + 1],
    }


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_a_sample_acts_alone_as_in_a_batch(parity: ParitySet, sample: int) -> None:
    noise = parity.noise(3)[sample : sample + 1]
    solo = parity.model.get_action(alone(parity, sample), noise=noise)["action_pred"]
    # Measured 1.0e-6.
    assert (parity.act(3)[sample : sample + 1] - solo).abs().max() <= ACTION_TOLERANCE


def test_what_the_padding_holds_changes_nothing(parity: ParitySet) -> None:
    parity.model.action_head.num_inference_timesteps = 4
    inputs = parity.inputs(3)
    before = parity.model.get_action(inputs, noise=parity.noise(3))["action_pred"]
    padding = inputs["eagle_attention_mask"] == 0
    assert padding.any()
    inputs["eagle_input_ids"][padding] = 5
    after = parity.model.get_action(inputs, noise=parity.noise(3))["action_pred"]
    assert torch.equal(before, after)


def test_padding_on_the_right_is_masked_too(parity: ParitySet) -> None:
    inputs = alone(parity, 0)
    noise = parity.noise(3)[:1]
    before = parity.model.get_action(inputs, noise=noise)["action_pred"]
    for name, value in (("eagle_input_ids", 7), ("eagle_attention_mask", 0)):
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, 6), value=value)
    after = parity.model.get_action(inputs, noise=noise)["action_pred"]
    assert (before - after).abs().max() <= ACTION_TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_padding_stay_finite(parity: ParitySet, dtype: torch.dtype) -> None:
    model = type(parity.model).from_pretrained(parity.folder, torch_dtype=dtype)
    seen = []
    for module in (*model.backbone.language_model.layers, model.backbone, *model.adapter.layers):
        module.register_forward_hook(lambda module, args, out: seen.append(out))
    action = model.get_action(parity.inputs(3), noise=parity.noise(3))["action_pred"]
    assert len(seen) == model.config.language.num_layers + 1 + model.config.adapter.num_layers
    assert all(out.isfinite().all() for out in seen)
    assert action.isfinite().all()


def test_the_causal_mask_hides_padding_and_leaves_no_row_empty() -> None:
    mask = causal_mask(torch.tensor([[False, True, True], [True, True, False]]))
    expected = [
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
    ]
    assert mask[:, 0].int().tolist() == expected
    assert causal_mask(None) is None
