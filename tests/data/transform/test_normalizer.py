"""Normalization of states and actions. Oracles: the reference's recorded values, and the formulas by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.errors import MetadataError
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.state_action import (
    Normalizer,
    StateActionSinCosTransform,
    StateActionToTensor,
    StateActionTransform,
)
from tests.data.recorded import Recorded

DTYPES = {"f64": torch.float64, "f32": torch.float32}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["q99", "mean_std", "min_max", "scale", "binary"])
def test_every_mode_gives_the_reference_bits(recorded: Recorded, mode: str, dtype: str) -> None:
    # Columns 2 and 3 of the recorded statistics have min == max and std == 0, the last one with max == 0.
    normalizer = Normalizer(mode, recorded.info["normalizer_statistics"])
    x = torch.from_numpy(recorded.arrays["normalizer/x"]).to(DTYPES[dtype])
    forward = normalizer.forward(x)
    assert forward.dtype == DTYPES[dtype]
    np.testing.assert_array_equal(forward, recorded.arrays[f"normalizer/{mode}_{dtype}_forward"])
    if mode != "scale":
        np.testing.assert_array_equal(
            normalizer.inverse(x), recorded.arrays[f"normalizer/{mode}_{dtype}_inverse"]
        )


def test_constant_keys_by_hand() -> None:
    constant = {"min": [2.0], "max": [2.0], "mean": [2.0], "std": [0.0], "q01": [2.0], "q99": [2.0]}
    x = torch.tensor([[5.0], [0.5]])
    expected = {"min_max": [0, 0], "mean_std": [5, 0.5], "q99": [1, 0.5], "scale": [2.5, 0.25]}
    for mode, values in expected.items():
        assert Normalizer(mode, constant).forward(x).flatten().tolist() == values, mode
    assert Normalizer("min_max", constant).inverse(x).flatten().tolist() == [2, 2]


def test_min_max_is_not_clipped_and_q99_is() -> None:
    statistics = {"min": [0.0], "max": [1.0], "q01": [0.0], "q99": [1.0]}
    x = torch.tensor([[-1.0], [2.0]])
    assert Normalizer("min_max", statistics).forward(x).flatten().tolist() == [-3, 3]
    assert Normalizer("q99", statistics).forward(x).flatten().tolist() == [-1, 1]


def test_sin_cos_equals_the_reference(recorded: Recorded) -> None:
    angles = torch.from_numpy(recorded.arrays["normalizer/x"][:1])
    data = StateActionSinCosTransform(apply_to=["state.a"]).apply({"state.a": angles})
    # Measured 0; libraries may differ in the last bit of a sine.
    np.testing.assert_allclose(data["state.a"], recorded.arrays["sincos/out"], rtol=0, atol=2e-16)


@pytest.mark.parametrize("mode", ["min-max", "meanstd"])
def test_unknown_mode_names_the_nearest(mode: str) -> None:
    nearest = {"min-max": "min_max", "meanstd": "mean_std"}[mode]
    with pytest.raises(ValueError, match=f"state.x: normalization mode '{mode}': did you mean {nearest}"):
        StateActionTransform(apply_to=["state.x"], normalization_modes={"state.x": mode})


def test_scale_has_no_inverse() -> None:
    with pytest.raises(ValueError, match="'scale' has no inverse"):
        Normalizer("scale", {"min": [0.0], "max": [1.0]}).inverse(torch.zeros(1))


def metadata(recorded: Recorded, key: str, **changes: Any) -> DatasetMetadata:
    found = recorded.metadata()
    for name, value in changes.items():
        setattr(found.modalities.state[key], name, value)
    return found


def test_metadata_without_the_key_names_the_nearest(recorded: Recorded) -> None:
    transform = StateActionTransform(
        apply_to=["state.griper"], normalization_modes={"state.griper": "min_max"}
    )
    with pytest.raises(MetadataError, match=r"no key 'state.griper'; did you mean state.gripper"):
        transform.set_metadata(recorded.metadata())


def test_a_key_that_is_not_continuous_must_be_binary(recorded: Recorded) -> None:
    transform = StateActionTransform(apply_to=["state.x"], normalization_modes={"state.x": "min_max"})
    with pytest.raises(MetadataError, match=r"state.x: not continuous"):
        transform.set_metadata(metadata(recorded, "x", continuous=False))


def test_dtypes_named_by_a_config_are_applied_both_ways() -> None:
    transform = StateActionToTensor(
        apply_to=["state.x"],
        output_dtypes={"state.x": "torch.float32"},
        input_dtypes={"state.x": "np.float64"},
    )
    data = transform.apply({"state.x": np.ones((1, 1))})
    assert data["state.x"].dtype == torch.float32
    assert transform.unapply(data)["state.x"].dtype == np.float64
