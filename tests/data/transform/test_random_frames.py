"""Random changes of frames in train mode.

Oracles: flips, byte masks and quarter turns by numpy; luma by its weights; a turned plane and OpenCV's
resizing by formula; how often something happens by the binomial distribution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.errors import ObservationError, TransformError
from gr00t.data.transform.augment import posterize, rotate
from gr00t.data.transform.base import ComposedModalityTransform, ModalityTransform
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.video import (
    VideoColorJitter,
    VideoCrop,
    VideoGrayscale,
    VideoHorizontalFlip,
    VideoRandomGrayscale,
    VideoRandomPosterize,
    VideoRandomRotation,
    VideoResize,
    VideoToNumpy,
    VideoToTensor,
)

KEY, OTHER = "video.image", "video.wrist"
BYTES = {"apply_to": [KEY], "backend": "albumentations"}


def clips(count: int = 2, steps: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.rand(count, steps, 3, height, width, generator=torch.Generator().manual_seed(0))


def frames(count: int = 2, steps: int = 2, height: int = 8, width: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, steps, height, width, 3), dtype=np.uint8)


def test_a_flip_exchanges_left_and_right() -> None:
    image = clips(width=5)
    out = VideoHorizontalFlip(apply_to=[KEY], p=1.0)({KEY: image})[KEY]
    np.testing.assert_array_equal(out.numpy(), image.numpy()[..., ::-1])
    raw = frames(width=5)
    np.testing.assert_array_equal(VideoHorizontalFlip(p=1, **BYTES)({KEY: raw})[KEY], raw[..., ::-1, :])


@pytest.mark.parametrize("kind", [VideoGrayscale, VideoRandomGrayscale])
def test_grey_is_itu_luma_in_every_channel(kind: type[ModalityTransform]) -> None:
    image = clips()
    out = kind(apply_to=[KEY], p=1.0)({KEY: image})[KEY].numpy()
    luma = np.einsum("c,btchw->bthw", [0.299, 0.587, 0.114], image.double().numpy())
    assert out.shape == image.shape
    assert np.abs(out - luma[:, :, None]).max() < 2e-7


@pytest.mark.parametrize("bits", range(9))
def test_posterizing_masks_the_low_bits_of_every_byte(bits: int) -> None:
    raw = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 1, 16, 16, 3)
    masked = raw & ((0xFF << (8 - bits)) & 0xFF)
    out = VideoRandomPosterize(bits=bits, p=1.0, **BYTES)({KEY: raw})[KEY]
    np.testing.assert_array_equal(out, masked)
    # On tensors levels are counted to 1, as in torchvision: 256ths of the masked byte.
    as_tensor = posterize(torch.from_numpy(raw) / 255.0, bits)
    np.testing.assert_array_equal(as_tensor.numpy() * 256, masked)


@pytest.mark.parametrize("angle", [90, -90, 180, 450, -270])
def test_quarter_turns_are_exact_and_counterclockwise(angle: int) -> None:
    image = clips()
    out = VideoRandomRotation(apply_to=[KEY], degrees=(angle, angle))({KEY: image})[KEY]
    np.testing.assert_array_equal(out.numpy(), np.rot90(image.numpy(), angle // 90, axes=(-2, -1)))


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("angle", [30.0, -17.3, 200.0])
def test_a_turned_slope_is_the_slope_of_the_turned_place_and_black_outside(
    angle: float, interpolation: str
) -> None:
    height, width = 40, 57
    y, x = np.mgrid[:height, :width].astype(np.float64)
    slope = 0.2 + 0.01 * x + 0.004 * y
    image = torch.from_numpy(slope).float().expand(1, 3, -1, -1)
    out = rotate(image, angle, "bilinear" if interpolation == "linear" else "nearest")[0, 0].numpy()
    # Where a pixel was before it was turned counterclockwise, rows counting downward.
    turn, up, right = np.deg2rad(angle), (height - 1) / 2 - y, x - (width - 1) / 2
    from_x = (width - 1) / 2 + np.cos(turn) * right + np.sin(turn) * up
    from_y = (height - 1) / 2 - (-np.sin(turn) * right + np.cos(turn) * up)
    within = (from_x > 0) & (from_x < width - 1) & (from_y > 0) & (from_y < height - 1)
    outside = (from_x < -1) | (from_x > width) | (from_y < -1) | (from_y > height)
    assert within.sum() > 500
    assert outside.sum() > 100
    # Half a pixel to either side where the nearest one is taken: 0.007 on this slope.
    bound = 2e-5 if interpolation == "linear" else 0.0071
    assert np.abs(out - (0.2 + 0.01 * from_x + 0.004 * from_y))[within].max() < bound
    assert not out[outside].any()


def test_angles_are_uniform_between_their_bounds() -> None:
    torch.manual_seed(0)
    for degrees, low, high in ((20, -20, 20), ((5.0, 6.0), 5, 6)):
        drawn = VideoRandomRotation(apply_to=[KEY], degrees=degrees).draw(4000)
        assert low <= drawn.min() < low + (high - low) / 100
        assert high - (high - low) / 100 < drawn.max() <= high
        # The mean of 4000 uniform draws: within four standard deviations, 4 (high - low) / sqrt(12 * 4000).
        assert abs(drawn.mean() - (low + high) / 2) < 0.0183 * (high - low)


def test_a_change_happens_as_often_as_asked_and_to_all_cameras_and_steps_of_a_sample() -> None:
    torch.manual_seed(0)
    count = 4000
    image = torch.zeros(count, 2, 3, 1, 2)
    image[..., 0] = 1.0
    transform = VideoHorizontalFlip(apply_to=[KEY, OTHER], p=0.3)
    out = transform({KEY: image, OTHER: image})
    flipped = out[KEY][..., 1] == 1.0
    assert (flipped.flatten(1).all(1) | ~flipped.flatten(1).any(1)).all()
    assert torch.equal(out[KEY], out[OTHER])
    # Four standard deviations of a share of 0.3 in 4000: 4 sqrt(0.3 * 0.7 / 4000).
    assert abs(flipped[:, 0, 0, 0].float().mean() - 0.3) < 0.029
    with pytest.raises(ObservationError, match=r"video.wrist: 1 samples, video.image has 4000"):
        transform({KEY: image, OTHER: image[:1]})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (VideoHorizontalFlip, {"p": 0.5}),
        (VideoGrayscale, {"p": 0.5}),
        (VideoRandomPosterize, {"p": 0.5, "bits": 2}),
        (VideoRandomRotation, {"degrees": 10}),
        (VideoColorJitter, {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.08}),
        (VideoCrop, {"scale": 0.75}),
    ],
)
@pytest.mark.parametrize("backend", ["torchvision", "albumentations"])
def test_draws_repeat_with_the_global_seed_with_and_without_a_batch(
    kind: type[ModalityTransform], fields: dict[str, Any], backend: str
) -> None:
    transform = kind(apply_to=[KEY], backend=backend, **fields)
    image: Any = frames(16) if backend == "albumentations" else clips(16)
    torch.manual_seed(1)
    first, second = (np.asarray(transform({KEY: image})[KEY]) for _ in range(2))
    torch.manual_seed(1)
    np.testing.assert_array_equal(np.asarray(transform({KEY: image})[KEY]), first)
    assert not np.array_equal(first, second)
    single = transform({KEY: image[0]})[KEY]
    assert single.shape == first.shape[1:]
    assert np.asarray(single).dtype == np.asarray(image).dtype
    transform.eval()
    assert transform({KEY: image})[KEY].shape == first.shape


def test_all_of_them_run_in_one_pipeline_in_train_mode() -> None:
    keys = [KEY, OTHER]
    steps: list[ModalityTransform] = [
        VideoToTensor(apply_to=keys),
        VideoCrop(apply_to=keys, scale=0.95),
        VideoResize(apply_to=keys, height=16, width=16),
        VideoRandomRotation(apply_to=keys, degrees=5),
        VideoHorizontalFlip(apply_to=keys, p=0.5),
        VideoGrayscale(apply_to=keys, p=0.2),
        VideoRandomGrayscale(apply_to=keys, p=0.2),
        VideoRandomPosterize(apply_to=keys, bits=4, p=0.2),
        VideoColorJitter(apply_to=keys, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08),
        VideoToNumpy(apply_to=keys),
        ConcatTransform(video_concat_order=keys),
    ]
    raw = frames(3, 2, 20, 24)
    video = ComposedModalityTransform(transforms=steps)({KEY: raw, OTHER: raw})["video"]
    assert (video.shape, video.dtype) == ((3, 2, 2, 16, 16, 3), np.uint8)


def shrunk_by_area(row: np.ndarray, new: int) -> np.ndarray:
    """Means over the covered parts of a row, by its integral."""
    integral = np.concatenate([[0], np.cumsum(row)])
    edges = np.interp(np.linspace(0, len(row), new + 1), np.arange(len(row) + 1), integral)
    return np.diff(edges) * new / len(row)


def test_bytes_are_resized_as_opencv_does_it() -> None:
    row = np.random.default_rng(1).integers(0, 256, 30).astype(np.uint8)
    raw = np.broadcast_to(row[None, None, :, None], (1, 4, 30, 3)).copy()

    def resized(width: int, interpolation: str) -> np.ndarray:
        transform = VideoResize(height=4, width=width, interpolation=interpolation, **BYTES)
        return transform({KEY: raw})[KEY][0, 0, :, 0].astype(int)

    places = (np.arange(12) + 0.5) * 2.5 - 0.5
    linear = np.interp(places, np.arange(30), row)
    assert np.abs(resized(12, "linear") - linear).max() <= 0.5 + 1e-6  # no antialiasing
    assert np.array_equal(resized(12, "nearest"), row[(np.arange(12) * 2.5).astype(int)])
    assert np.abs(resized(12, "area") - shrunk_by_area(row.astype(float), 12)).max() <= 0.5 + 1e-6
    constant = VideoResize(height=9, width=7, interpolation="lanczos4", **BYTES)
    assert (constant({KEY: np.full((1, 6, 20, 3), 77, np.uint8)})[KEY] == 77).all()
    assert np.array_equal(resized(30, "lanczos4"), row)
    with pytest.raises(ObservationError, match=f"{KEY}: VideoResize with backend 'albumentations' takes"):
        constant({KEY: torch.rand(1, 3, 8, 8)})


def test_lanczos_keeps_a_slow_wave_and_drops_nothing_at_the_edge() -> None:
    wave = 128 + 100 * np.sin(np.arange(60) / 6)
    raw = np.broadcast_to(wave.round().astype(np.uint8)[None, None, :, None], (1, 2, 60, 3)).copy()
    out = VideoResize(height=2, width=90, interpolation="lanczos4", **BYTES)({KEY: raw})[KEY][0, 0, :, 0]
    places = (np.arange(90) + 0.5) * 2 / 3 - 0.5
    # Measured 1.0 levels: the input and the output are rounded, by half of one each.
    assert np.abs(out - (128 + 100 * np.sin(places / 6)))[6:-6].max() < 2


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (VideoHorizontalFlip, {"p": 2}, "VideoHorizontalFlip: p: expected a probability from 0 to 1, got 2"),
        (VideoGrayscale, {"p": float("nan")}, "VideoGrayscale: p: expected a probability from 0 to 1, got n"),
        (VideoRandomGrayscale, {"p": "often"}, "p: expected a probability from 0 to 1, got 'often'"),
        (VideoRandomPosterize, {"bits": 9, "p": 1}, "bits: expected 0 to 8 bits, got 9"),
        (VideoRandomPosterize, {"bits": 2.5, "p": 1}, "bits: .*integer.*got 2.5"),
        (VideoRandomRotation, {"degrees": -5}, r"degrees: expected a number from 0 \(half .* got -5"),
        (VideoRandomRotation, {"degrees": (9, 4)}, r"degrees: .*\(low, high\) of any size, got \(9, 4\)"),
        (
            VideoRandomRotation,
            {"degrees": 5, "interpolation": "cubic"},
            "interpolation 'cubic' with backend 'torchvision': known: linear, nearest",
        ),
        (
            VideoColorJitter,
            {"brightness": -0.1, "contrast": 0, "saturation": 0, "hue": 0.6},
            r"brightness: expected a number from 0 \(half the .*; hue: .* from -0.5 to 0.5, got",
        ),
        (VideoCrop, {"scale": 1.5}, "VideoCrop: scale: Input should be less than or equal to 1, got 1.5"),
        (VideoResize, {"height": 8}, "VideoResize: width: Field required"),
        (
            VideoResize,
            {"height": 8, "width": 8, "antialis": True},
            "antialis: no such field; did you mean an",
        ),
    ],
)
def test_values_outside_the_range_are_refused_with_field_and_range(
    kind: type[ModalityTransform], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(TransformError, match=message) as refused:
        kind(apply_to=[KEY], **fields)
    assert "\n" not in str(refused.value)
