"""Frames. Oracles: offsets and sizes worked out by hand; the numbers themselves are held by test_parity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gr00t.data.errors import ObservationError, TransformError
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
from tests.data.recorded import Recorded

KEY = "video.image"


def frames(height: int, width: int, lead: tuple[int, ...] = (1,)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*lead, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "crop", "top", "left"),
    [
        (256, 256, (243, 243), 6, 6),  # 6.5 rounds to the even 6
        (240, 320, (228, 304), 6, 8),
        (480, 640, (456, 608), 12, 16),
        (100, 102, (95, 96), 2, 3),  # 2.5 to 2
        (70, 70, (66, 66), 2, 2),
    ],
)
def test_crop_is_where_the_reference_has_it(
    height: int, width: int, crop: tuple[int, int], top: int, left: int
) -> None:
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    transform = VideoCrop(apply_to=[KEY], scale=0.95, training=False)
    out = transform({KEY: image})[KEY]
    assert out.shape[-2:] == crop
    assert out[0, 0, 0, 0] == top * width + left


def test_bytes_survive_the_way_to_float_and_back() -> None:
    # x / 255 * 255 truncates to x - 1 for some x: those are the speckles that the reference has, too.
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = VideoToTensor(apply_to=[KEY]).apply({KEY: image})
    assert tensor[KEY].shape == (1, 3, 16, 16)
    back = VideoToNumpy(apply_to=[KEY]).apply(tensor)[KEY]
    want = (image.astype(np.float32) / np.float32(255) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(back, want)


def test_truncation_not_rounding() -> None:
    half = torch.full((1, 3, 1, 1), 0.999)
    assert VideoToNumpy(apply_to=[KEY]).apply({KEY: half})[KEY].flatten().tolist() == [254] * 3


@pytest.mark.parametrize("lead", [(1,), (2, 3)])
def test_leading_dimensions_are_kept(lead: tuple[int, ...]) -> None:
    data = {KEY: frames(32, 32, lead)}
    for step in (
        VideoToTensor(apply_to=[KEY]),
        VideoCrop(apply_to=[KEY], scale=0.95, training=False),
        VideoResize(apply_to=[KEY], height=20, width=24),
        VideoToNumpy(apply_to=[KEY]),
    ):
        data = step(data)
    assert data[KEY].shape == (*lead, 20, 24, 3)
    assert data[KEY].dtype == np.uint8


def test_antialiased_shrinking_averages_a_checkerboard() -> None:
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None, None]
    smooth = VideoResize(apply_to=[KEY], height=16, width=16)({KEY: board})[KEY]
    sharp = VideoResize(apply_to=[KEY], height=16, width=16, antialias=False)({KEY: board})[KEY]
    assert (smooth[..., 2:-2, 2:-2] - 0.5).abs().max() < 1e-6
    assert sharp.shape == smooth.shape


def test_unknown_interpolation_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match="interpolation 'linaer' with backend 'torchvision': did you mean linear"
    ):
        VideoResize(apply_to=[KEY], height=8, width=8, interpolation="linaer")


def test_unknown_backends_are_refused_and_bytes_where_tensors_are_made() -> None:
    with pytest.raises(TransformError, match="VideoCrop: backend: 'torchvison': did you mean torchvision"):
        VideoCrop(apply_to=[KEY], scale=0.9, backend="torchvison")
    with pytest.raises(TransformError, match="VideoToTensor: backend: only 'torchvision' has tensors"):
        VideoToTensor(apply_to=[KEY], backend="albumentations")


@pytest.mark.parametrize(
    "transform",
    [
        VideoColorJitter(apply_to=[KEY], brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08),
        VideoHorizontalFlip(apply_to=[KEY], p=1.0),
        VideoGrayscale(apply_to=[KEY], p=1.0),
        VideoRandomGrayscale(apply_to=[KEY], p=1.0),
        VideoRandomPosterize(apply_to=[KEY], bits=1, p=1.0),
        VideoRandomRotation(apply_to=[KEY], degrees=90),
        VideoCrop(apply_to=[KEY], scale=1.0),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_augmentations_are_identities_in_eval_mode(transform: VideoCrop) -> None:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    transform.eval()
    assert torch.equal(transform({KEY: image})[KEY], image)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (128, 128), (512, 512), (100, 100)])
def test_any_resolution_with_the_aspect_ratio_is_served(recorded: Recorded, height: int, width: int) -> None:
    transform = VideoToTensor(apply_to=[KEY])
    transform.set_metadata(recorded.metadata())
    assert transform({KEY: frames(height, width)})[KEY].shape == (1, 3, height, width)


def test_aspect_ratio_is_compared_to_whole_pixels(recorded: Recorded) -> None:
    transform = VideoToTensor(apply_to=[KEY])
    transform.set_metadata(recorded.metadata((1920, 1080)))
    assert transform({KEY: frames(480, 854)})[KEY].shape == (1, 3, 480, 854)  # 853.3 wide
    with pytest.raises(ObservationError, match=r"expected frames of 1920x1080 pixels .* got 848x480"):
        transform({KEY: frames(480, 848)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (frames(240, 320), r"video.image: expected frames of 256x256 .* got 320x240"),
        (
            frames(256, 256).astype(np.float32),
            "video.image: expected a numpy array of dtype uint8, got dtype float32",
        ),
        (frames(256, 256)[..., :2], r"video.image: expected shape \(T, H, W, 3\) .* got \(1, 256, 256, 2\)"),
        (frames(256, 256)[0], r"got \(256, 256, 3\)"),
        ([[1]], "video.image: expected a numpy array of dtype uint8, got list"),
    ],
)
def test_bad_frames_are_named(recorded: Recorded, value: object, message: str) -> None:
    transform = VideoToTensor(apply_to=[KEY])
    transform.set_metadata(recorded.metadata())
    with pytest.raises(ObservationError, match=message):
        transform({KEY: value})


def test_missing_camera_names_the_nearest() -> None:
    with pytest.raises(
        ObservationError, match=r"no 'video.image' in the observation; did you mean video.imag\?"
    ):
        VideoToTensor(apply_to=[KEY])({"video.imag": frames(8, 8)})
