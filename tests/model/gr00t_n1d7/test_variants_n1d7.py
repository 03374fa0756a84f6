"""Other architectures of the family, for which nothing was recorded.

Oracles: for the backbone transformers' own model, which keeps its final norm, its buffers and its loop; for
the action head its blocks over all features, with the mask that the reference builds; both in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from gr00t.model.checkpoint.folder_kind import CONFIG_FILE
from gr00t.model.checkpoint.n1d7.config import BACKBONE_FILE, Gr00tN1d7Config
from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7
from gr00t.model.gr00t_n1d7.inputs import Gr00tN1d7Inputs
from gr00t.model.network.attention import key_mask
from gr00t.testing.random_checkpoint import random_weights
from tests.model.gr00t_n1d7.recorded_set import TINY
from tests.model.network.stages import assert_close

Files = dict[str, dict[str, Any]]
# Rows and columns of patches, in units of one token.
SHAPES = [[(2, 2), (1, 3)], [(3, 2)], [(1, 1), (2, 4), (2, 2)]]
TEXTS = [7, 3, 11]


def architecture(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Gr00tN1d7Config:
    """The tiny architecture with values of config.json and backbone_config.json changed."""
    files = Gr00tN1d7Config.from_folder(TINY).to_json_files()
    change(files[CONFIG_FILE], files[BACKBONE_FILE])
    return Gr00tN1d7Config.from_json_files(files)


def model_of(config: Gr00tN1d7Config, seed: int = 0) -> Gr00tN1d7:
    model = Gr00tN1d7.on_meta(config)
    model.load_state_dict(random_weights(model, seed), strict=True, assign=True)
    return model


def request(config: Gr00tN1d7Config, samples: tuple[int, ...] = (0, 1, 2)) -> dict[str, Tensor]:
    """Samples with images of several sizes and prompts of several lengths, by NVIDIA's names."""
    generator = torch.Generator().manual_seed(3)
    vision, token = config.vision, config.image_token_id
    rows, grids = [], []
    for sample in samples:
        ids: list[int] = []
        for height, width in SHAPES[sample]:
            ids += [1, *[token] * (height * width), 2]
            grids.append([1, height * vision.merge_size, width * vision.merge_size])
        rows.append(ids + torch.randint(3, 200, (TEXTS[sample],), generator=generator).tolist())
    longest = max(map(len, rows))
    patches = sum(height * width for _, height, width in grids)
    return {
        "pixel_values": torch.rand(patches, vision.patch_values, generator=generator) * 2 - 1,
        "image_grid_thw": torch.tensor(grids),
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        "state": torch.rand(len(rows), config.state_history, config.max_state_dim, generator=generator),
        "embodiment_id": torch.tensor(samples) % config.num_embodiments,
    }


def no_change(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    """The tiny architecture itself."""


def other_taps(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["vision_config"]["deepstack_visual_indexes"] = [3, 1]


def more_taps_than_layers(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["vision_config"]["deepstack_visual_indexes"] = [0, 1, 2, 4]
    main["select_layer"] = 3


def no_taps(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["vision_config"]["deepstack_visual_indexes"] = []


def other_patches(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["vision_config"] |= {"patch_size": 8, "spatial_merge_size": 3, "num_position_embeddings": 25}


def other_widths(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["vision_config"] |= {"hidden_size": 64, "num_heads": 2, "intermediate_size": 72, "depth": 4}
    backbone["text_config"] |= {"num_key_value_heads": 1, "head_dim": 32, "vocab_size": 512}
    backbone["text_config"]["rope_scaling"]["mrope_section"] = [8, 5, 3]
    backbone["text_config"]["attention_bias"] = True


def other_eps_and_theta(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    backbone["text_config"] |= {"rms_norm_eps": 0.3, "rope_theta": 70.0}


@pytest.mark.parametrize(
    "change",
    [
        *(no_change, other_taps, more_taps_than_layers, no_taps, other_patches, other_widths),
        other_eps_and_theta,
    ],
)
def test_the_backbone_is_that_of_transformers(change: Callable[..., object]) -> None:
    config = architecture(change)
    model = model_of(config)
    inputs = request(config)
    files = copy.deepcopy(config.to_json_files())
    files[BACKBONE_FILE]["text_config"]["num_hidden_layers"] = config.language.num_layers
    theirs = Qwen3VLModel(Qwen3VLConfig(**files[BACKBONE_FILE], attn_implementation="sdpa")).eval()
    names = config.family.names
    theirs.load_state_dict(
        {
            str(names.to_checkpoint(name)).removeprefix("backbone.model.model."): value
            for name, value in model.state_dict().items()
            if name.startswith("backbone.")
        },
        strict=True,
    )
    theirs.language_model.norm = nn.Identity()
    with torch.no_grad():
        expected = theirs(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            mm_token_type_ids=(inputs["input_ids"] == config.image_token_id).long(),
        ).last_hidden_state
        features = model.backbone(model.read_inputs(inputs))
    valid = inputs["attention_mask"].bool()
    assert_close(features[valid], expected[valid], "features")


def expected_velocity(model: Gr00tN1d7, inputs: Gr00tN1d7Inputs, actions: Tensor, bucket: int) -> Tensor:
    """One evaluation of the head, where every block is given all features and a mask, as in the reference."""
    head, config = model.action_head, model.config
    features = model.encode(inputs)
    valid = inputs.mask()
    every = config.action_head.dit.text_every
    masks = {"text": ~inputs.images & valid, "image": inputs.images & valid, "all": valid}
    clock = head.clock(torch.tensor([bucket]), torch.float32)
    state = inputs.state.reshape(len(valid), 1, -1)
    tokens = head.action_encoder(actions, clock.timesteps, inputs.embodiment)
    tokens = tokens + head.position_embedding[: actions.shape[1]]
    x = torch.cat([head.state_encoder(state, inputs.embodiment), tokens], dim=1)
    for number, (block, modulation) in enumerate(zip(head.layers, clock.blocks, strict=True)):
        kind = "all" if every is None else "text" if number % (2 * every) == 0 else "image"
        x = block(x, modulation, block.context(features), key_mask(masks[kind]))
    decoded = head.action_decoder(head.out_proj(head.out_norm(x, clock.output)), inputs.embodiment)
    return decoded[:, -actions.shape[1] :]


def text_every(blocks: int | None) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    def change(main: dict[str, Any], backbone: dict[str, Any]) -> None:
        main["use_alternate_vl_dit"] = blocks is not None
        main["attend_text_every_n_blocks"] = blocks or 2

    return change


def history(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    main["state_history_length"] = 3


def other_head(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    main |= {"max_action_dim": 9, "max_state_dim": 7, "action_horizon": 6, "hidden_size": 24}
    main |= {"num_timestep_buckets": 90, "max_num_embodiments": 4}
    main["diffusion_model_cfg"] |= {"output_dim": 24, "norm_eps": 0.2, "num_layers": 5}


def no_adapter(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    main["vl_self_attention_cfg"] = None


def adapter_without_norm(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    main["use_vlln"] = False


def neither(main: dict[str, Any], backbone: dict[str, Any]) -> None:
    no_adapter(main, backbone)
    adapter_without_norm(main, backbone)


HEADS = {
    "text every block": text_every(1),
    "text every third": text_every(3),
    "all features": text_every(None),
    "state history": history,
    "other sizes": other_head,
    "no adapter": no_adapter,
    "adapter without norm": adapter_without_norm,
    "neither": neither,
}


@pytest.mark.parametrize("name", HEADS)
def test_a_block_that_reads_its_rows_alone_is_one_that_sees_all_and_masks_them(name: str) -> None:
    config = architecture(HEADS[name])
    model = model_of(config)
    inputs = model.read_inputs(request(config))
    noise = torch.randn(
        3, config.action_horizon, config.action_dim, generator=torch.Generator().manual_seed(1)
    )
    model.action_head.num_inference_timesteps = 3
    expected = noise
    with torch.no_grad():
        for step in range(3):
            bucket = int(step / 3 * config.action_head.num_timestep_buckets)
            expected = expected + expected_velocity(model, inputs, expected, bucket) / 3
    assert_close(model(inputs, noise=noise)["action_pred"], expected, "action")


@pytest.mark.parametrize("name", HEADS)
def test_it_round_trips_and_acts_alone_as_in_a_batch(name: str, tmp_path: Path) -> None:
    config = architecture(HEADS[name])
    model_of(config).save_pretrained(tmp_path)
    model = Gr00tN1d7.from_pretrained(tmp_path)
    assert model.config == config
    noise = torch.randn(
        3, config.action_horizon, config.action_dim, generator=torch.Generator().manual_seed(1)
    )
    together = model.get_action(request(config), noise=noise)["action_pred"]
    alone = [model.read_inputs(request(config)).part(n, n + 1) for n in range(3)]
    joined = Gr00tN1d7Inputs.cat(alone, pad_token_id=5)
    assert torch.equal(model(joined, noise=noise)["action_pred"], together)
    for sample, inputs in enumerate(alone):
        part = slice(sample, sample + 1)
        assert_close(model(inputs, noise=noise[part])["action_pred"], together[part], f"sample {sample}")


def test_the_rows_of_the_other_kind_and_of_the_padding_change_nothing() -> None:
    """A block that reads text never sees an image, whatever its feature is, and neither sees the padding."""
    config = architecture(no_change)
    head = model_of(config).action_head
    valid = torch.tensor([[False, True, True, True, True]])
    images = torch.tensor([[False, False, True, True, False]])
    features = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    state = torch.zeros(1, 1, config.max_state_dim)
    whole = head.context(features, valid, state, 0, images)
    sizes = {part.keys.shape[2] for part in whole.attended if part is not None}
    assert sizes == {2}  # rows of text, rows of the image
    spoiled = torch.where((images & valid).unsqueeze(-1), features, float("inf"))
    again = head.context(spoiled, valid, state, 0, images)
    for number, (one, other) in enumerate(zip(whole.attended, again.attended, strict=True)):
        reads_images = number % 4 == 2
        assert (one is None) == (number % 2 == 1)
        if one is not None:
            assert torch.equal(one.keys, other.keys) == reads_images
    assert whole.masks == [None] * len(head.layers)
    with pytest.raises(ValueError, match="images: this model's blocks read text or images"):
        head.context(features, valid, state, 0)


def test_what_a_block_reads_is_projected_once_per_request() -> None:
    config = architecture(no_change)
    model = model_of(config)
    seen: list[tuple[int, ...]] = []
    for layer in model.action_head.layers:
        if layer.is_cross:
            layer.attn.k_proj.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    model.action_head.num_inference_timesteps = 8
    model.get_action(request(config, (0,)), seeds=[1])
    # 7 images' tokens of 18; once for each of four blocks, whatever the number of steps.
    text, image = 2 * 2 + TEXTS[0], 4 + 3
    assert seen == [(1, text), (1, image), (1, text), (1, image)]
