"""What a request must contain. Oracle: the text, which names the key; positions by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gr00t.model.gr00t_n1d7.positions import learned_positions, patch_places, token_positions
from tests.model.gr00t_n1d7.recorded_set import RecordedSet

Inputs = dict[str, torch.Tensor]


def drop(key: str) -> Callable[[Inputs], object]:
    return lambda inputs: inputs.pop(key)


def put(key: str, place: tuple[Any, ...], value: float) -> Callable[[Inputs], object]:
    return lambda inputs: inputs[key].__setitem__(place, value)


def cut(key: str, dim: int) -> Callable[[Inputs], object]:
    def change(inputs: Inputs) -> None:
        inputs[key] = inputs[key].narrow(dim, 0, inputs[key].shape[dim] - 1)

    return change


def no_image(inputs: Inputs) -> None:
    inputs["input_ids"][inputs["input_ids"] == 306] = 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("image_grid_thw"),
            "image_grid_thw is missing from the model's inputs; got attention_mask, embod",
        ),
        (cut("pixel_values", 1), "pixel_values: expected shape (patches, 1536), got (32, 1535)"),
        (cut("pixel_values", 0), "pixel_values: 31 patches, image_grid_thw says 32"),
        (
            put("image_grid_thw", (0, 0), 2),
            "image_grid_thw: expected one frame, and rows and columns of patches",
        ),
        (put("image_grid_thw", (0, 2), 3), "in squares of 2, got [1, 4, 3]"),
        (put("image_grid_thw", (0, 1), 99), "image_grid_thw: 99 is outside 0..32"),
        (cut("image_grid_thw", 1), "image_grid_thw: expected shape (images, 3), got (2, 2)"),
        (put("input_ids", (0, 0), 320), "input_ids: 320 is outside 0..319"),
        (
            put("input_ids", (0, 8), 5),
            "input_ids: the tokens (id 306) of sample 0 are not those of whole images",
        ),
        (put("input_ids", (0, 0), 306), "of whole images, which have [4, 4] tokens"),
        (no_image, "input_ids: sample 0 needs images (tokens 306) and text"),
        (put("attention_mask", (0, slice(None)), 0), "attention_mask: samples [0] have no token at all"),
        (cut("attention_mask", 1), "attention_mask: expected shape (1, 52), got (1, 51)"),
        (cut("state", 2), "state: expected shape (1, 1, 24), got (1, 1, 23)"),
        (put("embodiment_id", (0,), 12), "embodiment_id: 12 is outside 0..11"),
    ],
)
def test_what_does_not_fit_is_refused(
    recorded: RecordedSet, change: Callable[[Inputs], object], message: str
) -> None:
    if recorded.folder.name != "tiny_n17_a":
        pytest.skip("the numbers are those of one set")
    inputs = recorded.inputs(1)
    change(inputs)
    with pytest.raises(ValueError, match=re.escape(message)):
        recorded.model.read_inputs(inputs)


def test_an_image_more_than_the_prompts_have_is_refused(recorded: RecordedSet) -> None:
    inputs = recorded.inputs(1)
    grid = inputs["image_grid_thw"]
    inputs["image_grid_thw"] = torch.cat([grid, grid[:1]])
    more = inputs["pixel_values"][: int(grid[0].prod())]
    inputs["pixel_values"] = torch.cat([inputs["pixel_values"], more])
    with pytest.raises(ValueError, match=f"for {len(grid)} images, image_grid_thw has {len(grid) + 1}"):
        recorded.model.read_inputs(inputs)


def test_samples_have_their_own_images_in_any_part_of_a_batch(recorded: RecordedSet) -> None:
    request = recorded.model.read_inputs(recorded.inputs(3))
    last = request.part(2, 3)
    assert request.part(0, 3).grids == request.grids
    assert last.grids == request.grids[-last.counts[0] :]
    assert torch.equal(last.pixel_values, request.pixel_values[-len(last.pixel_values) :])
    again = type(request).cat([request.part(n, n + 1) for n in (2, 0)], 7)
    assert again.counts == (request.counts[2], request.counts[0])
    assert torch.equal(again.images.sum(1), request.images.sum(1)[[2, 0]])


def test_tokens_of_an_image_spread_in_rows_and_columns_and_text_goes_on_behind() -> None:
    images = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    valid = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    found = token_positions(images, valid, [(2, 3)])
    assert found[:, 0].tolist() == [
        [1, 0, 1, 1, 1, 1, 1, 1, 4, 5],
        [1, 0, 1, 1, 1, 2, 2, 2, 4, 5],
        [1, 0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]


def test_patches_come_in_squares() -> None:
    rows, columns = patch_places((4, 4), 2)
    assert rows.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert columns.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]


def test_learned_positions_are_torchs_bilinear_ones() -> None:
    """Oracle: `interpolate` with its corners aligned."""
    table = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    rows, weights = learned_positions((6, 10), 2, 7)
    found = (table.flatten()[rows] * weights).sum(0)
    expected = torch.nn.functional.interpolate(
        table[None, None], (6, 10), mode="bilinear", align_corners=True
    )
    down, across = patch_places((6, 10), 2)
    assert (found - expected[0, 0][down, across]).abs().max() < 1e-5
