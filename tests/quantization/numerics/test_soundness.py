"""Values that no quantization yields are refused by name. Oracle: layers and statistics as computed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.soundness import (
    ORTHOGONAL_WITHIN,
    UnsoundError,
    check_state,
    check_statistics,
    static_scale,
)
from gr00t.quantization.numerics.statistics import InputRecorder, InputStatistics
from gr00t.quantization.settings.options import Rotation, WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

ODD = {"in_features": 33, "out_features": 40, "block_in": 16, "block_out": 16}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difficult(spec: LinearSpec) -> nn.Linear:
    """A weight whose rows are of all sizes: zero, denormal, tiny, with a single large value."""
    linear = nn.Linear(spec.in_features, spec.out_features, bias=False).requires_grad_(False)
    scale = normal(spec.out_features, 1, seed=1).exp() ** 3
    linear.weight.copy_(normal(spec.out_features, spec.in_features) * scale)
    linear.weight[0] = 0
    for row, factor in ((1, 1e-44), (2, 1e-36), (3, 1e-33), (4, 1e-30)):
        linear.weight[row] *= factor
    linear.weight[5], linear.weight[5, 3] = 0, -5
    return linear


def recorded(channels: int) -> InputStatistics:
    recorder = InputRecorder(channels)
    recorder.observe(normal(50, channels, seed=2) * normal(channels, seed=3).exp() ** 3)
    return recorder.result()


def built(spec: LinearSpec) -> DuQuantLinear:
    layer = DuQuantLinear.from_linear(
        difficult(spec), spec, recorded(spec.in_features) if spec.informed else None
    )
    if spec.static:
        calibration = LayerCalibration(layer, PooledPercentile(99.9, 1))
        layer(normal(20, spec.in_features, seed=4))
        calibration.finish()
    return layer


def off_orthogonal(rotation: torch.Tensor) -> float:
    exact = rotation.double()
    return float((exact.mT @ exact - torch.eye(rotation.shape[-1], dtype=torch.float64)).abs().max())


# What quantizing yields is sound


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("granularity", WeightScale)
@pytest.mark.parametrize("rotation", [Rotation.HADAMARD, Rotation.SVD, Rotation.DUQUANT, Rotation.NONE])
def test_whatever_quantizing_yields_is_sound(bits, granularity, rotation):
    for further in ({}, {"informed": True, "smoothing": 0.5, "calibration_steps": 1}):
        spec = LinearSpec(
            **ODD, weight=IntFormat(bits), weight_scale=granularity, rotation=rotation, **further
        )
        layer = built(spec)
        check_state(layer.packed_state(), spec)
        rotations = [value for name, value in layer.packed_state().items() if name.startswith("rotation")]
        assert len(rotations) == {"none": 0, "duquant": 3}.get(rotation.value, 2)
        # Measured 7.6e-8 at most: what is allowed lies 130 times above.
        assert max(map(off_orthogonal, rotations), default=0) < ORTHOGONAL_WITHIN / 40


def test_activations_alone_and_nothing_at_all_are_sound():
    for formats in ({"weight": None}, {"weight": None, "activation": None}, {"activation": None}):
        spec = LinearSpec(**ODD, **formats)
        check_state(built(spec).packed_state(), spec)


# What it never yields is not

FULL = LinearSpec(
    **ODD, rotation=Rotation.DUQUANT, informed=True, smoothing=0.5, calibration_steps=1, absorbs=False
)


def _set(index, value):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[index] = value
        return tensor

    return change


DAMAGE = {
    "nan scale": (
        "row_scale",
        _set(7, float("nan")),
        "row_scale: 1 of 40 values are not finite and",
    ),
    "negative scale": ("row_scale", _set(7, -1e-3), "row_scale: 1 of 40 values"),
    "zero scale": ("row_scale", _set(7, 0), "row_scale: 1 of 40 values"),
    "infinite scale": ("row_scale", _set(7, float("inf")), "row_scale: 1 of 40 values"),
    "zeroed codes": ("codes", torch.zeros_like, "codes: 40 rows use less than the range of their 4 bits"),
    "a zeroed row": ("codes", _set(20, 0), "codes: 1 rows use less"),
    "half a byte too much": ("codes", _set((3, -1), 0xF1), "codes: the half byte after the last one"),
    "block scale": ("block_scale", _set((3, -1), 0xF1), "block_scale: the half byte after the last one"),
    "zeros as permutation": ("perm", torch.zeros_like, "perm: no permutation of 33 channels"),
    "index too large": ("perm", _set(0, 33), "perm: no permutation of 33"),
    "negative index": ("perm", _set(0, -1), "perm: no permutation of 33"),
    "doubled rotation": (
        "rotation_in",
        lambda t: t * 2,
        "rotation_in: not orthogonal, off by 3, allowed",
    ),
    "rotation times 1000": ("rotation_first", lambda t: t * 1000, "rotation_first: not orthogonal"),
    "nan in a rotation": (
        "rotation_out",
        _set((0, 0, 0), float("nan")),
        "rotation_out: .* off by nan",
    ),
    "slightly off": ("rotation_out", lambda t: t * (1 + 1e-4), "rotation_out: not orthogonal"),
    "negative smoothing": ("smoothing", lambda t: -t, "smoothing: 33 of 33 values"),
    "wide smoothing": ("smoothing", _set(1, 1e9), r"smoothing: beyond exp\(-14\) to exp\(14\)"),
    "infinite activation scale": ("act_scale", _set(1, float("inf")), "act_scale: 1 of 33 values"),
    "one huge activation scale": ("act_scale", _set(1, 1e30), r"act_scale: from .* to 1e\+30 in one layer"),
    "scales not fixed": ("calibrated", torch.zeros_like, "act_scale: not 1 although no scales are fixed yet"),
    "another dtype": (
        "perm",
        lambda t: t.long(),
        r"perm: \(33,\) of int64, in a .* \(33,\) of int32",
    ),
    "another shape": ("smoothing", lambda t: t[:-1], r"smoothing: \(32,\) of float32, in a layer"),
}


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_values_that_cannot_be_are_named(name, change, message):
    state = {key: value.clone() for key, value in built(FULL).packed_state().items()}
    check_state(state, FULL)
    state[name] = change(state[name])
    with pytest.raises(UnsoundError, match=f"^{message}"):
        check_state(state, FULL)


def test_a_flag_that_is_neither_true_nor_false_is_refused():
    state = dict(built(FULL).packed_state())
    state["calibrated"] = torch.tensor(2, dtype=torch.uint8).view(torch.bool)
    with pytest.raises(UnsoundError, match="calibrated: neither true nor false"):
        check_state(state, FULL)


@pytest.mark.parametrize(("change", "name"), [("pop", "perm"), ("add", "other")])
def test_a_buffer_missing_or_left_over_is_named(change, name):
    state = dict(built(FULL).packed_state())
    if change == "pop":
        del state[name]
    else:
        state[name] = torch.ones(1)
    with pytest.raises(UnsoundError, match=f"^{name}: .*absent"):
        check_state(state, FULL)


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 7])
def test_bits_after_the_last_code_or_scale_are_refused(bits):
    spec = LinearSpec(33, 40, weight=IntFormat(bits))
    for name in ("codes", "block_scale"):
        state = {key: value.clone() for key, value in built(spec).packed_state().items()}
        check_state(state, spec)
        state[name][3, -1] |= -128 if state[name].dtype == torch.int8 else 128
        with pytest.raises(UnsoundError, match=rf"^{name}: the bits after the last one are not zero"):
            check_state(state, spec)


# Statistics and static scales


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak": torch.full((33,), torch.nan)}, "statistics.peak: it holds inf or nan"),
        ({"peak": -torch.ones(33)}, "statistics.peak: a peak below zero"),
        ({"peak": torch.ones(32)}, r"statistics.peak: \(32,\) of float32, expected \(33,\)"),
        (
            {"sample": torch.full((32, 33), torch.inf, dtype=torch.bfloat16)},
            "statistics.sample: it holds",
        ),
        ({"sample": torch.full((32, 33), 1e6, dtype=torch.bfloat16)}, "statistics.sample: a value above"),
        ({"sample": torch.ones(32, 33)}, r"statistics.sample: \(32, 33\) of float32, expected"),
    ],
)
def test_statistics_of_no_input_are_refused_also_by_the_layer(changes, message):
    good = recorded(33)
    check_statistics(good, 33)
    bad = good._replace(**changes)
    with pytest.raises(UnsoundError, match=message):
        check_statistics(bad, 33)
    spec = LinearSpec(**ODD, informed=True)
    with pytest.raises(UnsoundError, match=message):
        DuQuantLinear.from_linear(difficult(spec), spec, bad)


def test_a_quiet_channel_gets_its_share_and_inf_gets_no_scale():
    peaks = torch.tensor([0.0, 1e-6, 127.0])
    assert static_scale(peaks, IntFormat(8)).tolist() == pytest.approx([1e-4, 1e-4, 1.0])
    for bad in (torch.inf, torch.nan):
        with pytest.raises(UnsoundError, match=r"^act_scale: \d of 3 values are not finite"):
            static_scale(torch.tensor([1.0, 2.0, bad]), IntFormat(8))


def test_scales_that_cannot_be_leave_the_layer_as_it_was():
    spec = LinearSpec(**ODD, calibration_steps=1)
    layer = DuQuantLinear.from_linear(difficult(spec), spec)
    before = {name: value.clone() for name, value in layer.packed_state().items()}
    observer = PooledPercentile(99.9, 1)
    observer.observe(torch.full((4, 33), torch.inf))
    calibration = LayerCalibration(layer, observer)
    with pytest.raises(UnsoundError):
        calibration.finish()
    assert layer.is_calibrating
    assert all(torch.equal(value, before[name]) for name, value in layer.packed_state().items())
    assert torch.isfinite(layer(normal(3, 33))).all()


# A specification


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("block_in", 0, "block_in=0: expected a whole number from 1 to 4096"),
        ("block_out", -16, "block_out=-16: expected a whole number"),
        ("block_in", 16.0, "block_in=16.0: expected a whole number"),
        ("block_in", True, "block_in=True: expected a whole number"),
        ("block_in", "16", "block_in='16': expected a whole number"),
        ("block_in", 10**80, "block_in=1000.*: expected a whole number"),
        ("in_features", None, "in_features=None: expected a whole number"),
        ("out_features", 0, "out_features=0: expected a whole number"),
        ("smoothing", float("nan"), "smoothing=nan: expected a number from 0 to 1"),
        ("act_percentile", 101, "act_percentile=101: expected a number from 50 to 100"),
        ("calibration_steps", -1, "calibration_steps=-1: expected a whole number"),
        ("permute", 1, "permute=1: expected true or false"),
        ("rotation", "hadamard!", "rotation='hadamard!': expected one of duquant, hadamard, svd, none"),
        ("weight", 4, "weight=4: expected a format of 2 to 8 bits, or none"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(field, value, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dataclasses.replace(LinearSpec(64, 32), **{field: value})


def test_floating_activations_have_no_static_scales():
    with pytest.raises(ValueError, match="calibration_steps=2: activations in floating point have no scales"):
        LinearSpec(64, 32, activation=None, calibration_steps=2)
