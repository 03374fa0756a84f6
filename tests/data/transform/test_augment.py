"""Oracles: colorsys for the hue, the definitions of torchvision's factors, and where a crop came from."""

from __future__ import annotations

import colorsys

import pytest
import torch

from gr00t.data.transform.augment import color_jitter, random_crop, shift_hue
from gr00t.data.transform.video import VideoColorJitter, VideoCrop

KEY = "video.image"


def clips(count: int = 4, steps: int = 1, side: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, steps, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("turns", [0.0, 0.08, -0.3, 0.5, 0.99])
def test_hue_turns_as_colorsys_turns_it(turns: float) -> None:
    colours = torch.cat([clips(1, side=6), torch.ones(1, 1, 3, 6, 6) * torch.rand(6, 6).mul(0.9)])
    turned = shift_hue(colours, torch.full((2, 1, 1, 1, 1), turns))
    for before, after in zip(
        colours.movedim(2, -1).reshape(-1, 3).tolist(),
        turned.movedim(2, -1).reshape(-1, 3).tolist(),
        strict=True,
    ):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value)
        assert after == pytest.approx(expected, abs=2e-6)


def test_brightness_contrast_and_saturation_are_torchvisions_factors() -> None:
    frames = clips(1) * 0.5
    gray = (frames * torch.tensor([0.299, 0.587, 0.114]).view(1, 1, 3, 1, 1)).sum(dim=2, keepdim=True)
    still = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
    expected = {
        "brightness": frames * 1.5,
        "contrast": 1.5 * frames - 0.5 * gray.mean(),
        "saturation": 1.5 * frames - 0.5 * gray,
    }
    for name, wanted in expected.items():
        changed = color_jitter(frames, **{**still, name: (1.5, 1.5)})
        assert (changed - wanted.clamp(0, 1)).abs().max() < 1e-6, name


def test_a_single_number_is_half_the_width_of_the_range() -> None:
    torch.manual_seed(0)
    grey = torch.full((500, 1, 3, 1, 1), 0.4)
    levels = color_jitter(grey, brightness=0.3, contrast=0.0, saturation=0.0, hue=0.0)[:, 0, 0, 0, 0] / 0.4
    assert 0.7 <= levels.min() < 0.71
    assert 1.29 < levels.max() <= 1.3


def test_each_clip_is_cut_at_a_place_of_its_own_and_its_frames_alike() -> None:
    torch.manual_seed(0)
    places = torch.arange(20 * 20, dtype=torch.float32).view(1, 1, 1, 20, 20).expand(8, 2, 3, 20, 20)
    cut = random_crop(places, 0.8)
    assert cut.shape == (8, 2, 3, 16, 16)
    corners = cut[:, :, :, 0, 0]
    assert (corners == corners[:, :1, :1]).all()
    assert len(set(corners[:, 0, 0].tolist())) > 3
    rows = cut[:, 0, 0] - corners[:, 0, 0, None, None]
    assert (rows == places[0, 0, 0, :16, :16]).all()


def test_the_transforms_draw_in_train_mode_and_repeat_with_the_global_seed() -> None:
    frames = clips(3, steps=2)
    jitter = VideoColorJitter(apply_to=[KEY], brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08)
    crop = VideoCrop(apply_to=[KEY], scale=0.75)
    for transform, size in ((jitter, 12), (crop, 9)):
        torch.manual_seed(1)
        first = transform({KEY: frames})[KEY]
        second = transform({KEY: frames})[KEY]
        torch.manual_seed(1)
        again = transform({KEY: frames})[KEY]
        assert first.shape == (3, 2, 3, size, size)
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
