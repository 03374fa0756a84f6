"""Statistics that cannot be normalized by. Oracle: the file, the tag and the key in the message.

What may look wrong and is not: a key that never changed, and one without any spread of its quantiles.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.errors import MetadataError, ObservationError
from gr00t.data.schema import DatasetMetadata, load_metadata
from gr00t.data.transform.state_action import StateActionTransform

TAG = EmbodimentTag.NEW_EMBODIMENT


def entry() -> dict[str, Any]:
    """A small, valid entry: a state of two numbers, an action of one."""

    def numbers(width: int) -> dict[str, list[float]]:
        values = {"min": -1.0, "q01": -0.9, "mean": 0.1, "q99": 0.9, "max": 1.0, "std": 0.5}
        return {name: [value] * width for name, value in values.items()}

    def described(width: int) -> dict[str, Any]:
        return {"absolute": True, "rotation_type": None, "shape": [width], "continuous": True}

    return {
        "statistics": {"state": {"arm": numbers(2)}, "action": {"grip": numbers(1)}},
        "modalities": {
            "video": {"front": {"resolution": [64, 48], "channels": 3, "fps": 20.0}},
            "state": {"arm": described(2)},
            "action": {"grip": described(1)},
        },
        "embodiment_tag": "new_embodiment",
    }


def store(path: Path, content: dict[str, Any]) -> Path:
    file = path / "metadata.json"
    file.write_text(json.dumps({"new_embodiment": content}))
    return file


def refusal(path: Path, content: dict[str, Any]) -> str:
    with pytest.raises(MetadataError) as error:
        load_metadata(store(path, content), TAG)
    return str(error.value)


@pytest.mark.parametrize("name", ["min", "max", "mean", "std", "q01", "q99"])
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (None, "expected a list of numbers, got None"),
        (1.0, "expected a list of numbers, got 1.0"),
        ("1.0", "expected a list of numbers, got '1.0'"),
        ({}, "expected a list of numbers, got {}"),
        ([], "expected at least one number, got an empty list"),
        ([None, 0.0], "expected finite numbers up to 1e+30, got None at [0]"),
        ([0.0, float("nan")], "expected finite numbers up to 1e+30, got nan at [1]"),
        ([float("inf"), 0.0], "expected finite numbers up to 1e+30, got inf at [0]"),
        ([0.0, float("-inf")], "expected finite numbers up to 1e+30, got -inf at [1]"),
        ([1e38, 0.0], "expected finite numbers up to 1e+30, got 1e+38 at [0]"),
        ([0.0, -(10**40)], f"expected finite numbers up to 1e+30, got -{10**40} at [1]"),
        (["0", 0.0], "expected finite numbers up to 1e+30, got '0' at [0]"),
        ([True, 0.0], "expected finite numbers up to 1e+30, got True at [0]"),
        ([[0.0], [0.0]], "expected finite numbers up to 1e+30, got [0.0] at [0]"),
        ([0.5], "1 numbers, the key has 2"),
        ([0.5, 0.5, 0.5], "3 numbers, the key has 2"),
    ],
)
def test_what_is_no_list_of_numbers_is_named(tmp_path: Path, name: str, values: object, problem: str) -> None:
    content = entry()
    content["statistics"]["state"]["arm"][name] = values
    where = f"new_embodiment.statistics.state.arm.{name}"
    assert refusal(tmp_path, content) == f"{tmp_path / 'metadata.json'}: {where}: {problem}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"min": [-1.0, 2.0]}, ".min: larger than max at [1]: 2 > 1"),
        ({"max": [-1.5, 1.0]}, ".min: larger than max at [0]: -1 > -1.5"),
        ({"q01": [0.95, -1.0]}, ".q01: larger than q99 at [0]: 0.95 > 0.9"),
        ({"std": [0.5, -0.1]}, ".std: negative at [1]: -0.1"),
    ],
)
def test_numbers_that_contradict_each_other_are_named(
    tmp_path: Path, changes: dict[str, list[float]], problem: str
) -> None:
    content = entry()
    content["statistics"]["state"]["arm"].update(changes)
    where = f"new_embodiment.statistics.state.arm{problem}"
    assert refusal(tmp_path, content) == f"{tmp_path / 'metadata.json'}: {where}"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    content = entry()
    content["statistics"]["state"]["arm"]["std"] = [-1.0, -2.0]
    content["statistics"]["action"]["grip"]["min"] = [3.0]
    content["statistics"]["action"]["grap"] = content["statistics"]["action"]["grip"]
    content["modalities"]["state"]["hand"] = content["modalities"]["state"]["arm"]
    assert refusal(tmp_path, content).splitlines() == [
        f"{tmp_path / 'metadata.json'}:",
        "  new_embodiment.modalities.state.hand: there are no statistics of it",
        "  new_embodiment.statistics.action.grap: modalities.action has no such key; did you mean grip?",
        "  new_embodiment.statistics.action.grip.min: larger than max at [0]: 3 > 1",
        "  new_embodiment.statistics.state.arm.std: negative at [0]: -1",
        "  new_embodiment.statistics.state.arm.std: negative at [1]: -2",
    ]


def test_missing_statistics_are_named_all(tmp_path: Path) -> None:
    content = entry()
    del content["statistics"]["state"]["arm"]["q01"], content["statistics"]["action"]["grip"]["std"]
    assert refusal(tmp_path, content).splitlines()[1:] == [
        "  new_embodiment.statistics.state.arm.q01: Field required",
        "  new_embodiment.statistics.action.grip.std: Field required",
    ]


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("state", "arm", "shape"), [0], "modalities.state.arm.shape.0: Input should be greater than 0"),
        (("state", "arm", "shape"), [-2], "modalities.state.arm.shape.0: Input should be greater than 0"),
        (
            ("video", "front", "fps"),
            float("nan"),
            "modalities.video.front.fps: Input should be a finite number",
        ),
        (("video", "front", "resolution"), [0, 48], "modalities.video.front.resolution.0: Input should be"),
        (
            ("video", "front", "channels"),
            -3,
            "modalities.video.front.channels: Input should be greater than 0",
        ),
    ],
)
def test_sizes_that_are_none_are_named(tmp_path: Path, place: tuple, value: object, problem: str) -> None:
    content = entry()
    modality, key, name = place
    content["modalities"][modality][key][name] = value
    assert f"metadata.json: new_embodiment.{problem}" in refusal(tmp_path, content)


def test_an_entry_of_another_embodiment_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {**entry(), "embodiment_tag": "gr1"}).startswith(
        f"{tmp_path / 'metadata.json'}: the entry 'new_embodiment' has embodiment_tag 'gr1'; the two choose"
    )


def test_an_entry_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"new_embodiment": []}')
    with pytest.raises(MetadataError, match=r"metadata.json: new_embodiment: Input should be a valid dict"):
        load_metadata(tmp_path / "metadata.json", TAG)


def test_an_entry_twice_is_refused(tmp_path: Path) -> None:
    file = store(tmp_path, entry())
    file.write_text(file.read_text().replace('"min":', '"min": [7, 7], "min":', 1))
    with pytest.raises(
        MetadataError, match=r"metadata.json: not a JSON file: an object has two entries 'min'"
    ):
        load_metadata(file, TAG)


def test_keys_that_never_changed_are_usable(tmp_path: Path) -> None:
    content = entry()
    constant = {"min": [0.3, 0], "max": [0.3, 0], "q01": [0.3, 0], "q99": [0.3, 0], "std": [0.0, 0]}
    content["statistics"]["state"]["arm"].update(constant)
    metadata = load_metadata(store(tmp_path, content), TAG)
    assert metadata.statistics.state["arm"].min.tolist() == [0.3, 0.0]
    transform = StateActionTransform(apply_to=["state.arm"], normalization_modes={"state.arm": "min_max"})
    transform.set_metadata(metadata)
    value = torch.tensor([[0.3, 5.0]], dtype=torch.float64)
    assert transform({"state.arm": value})["state.arm"].tolist() == [[0.0, 0.0]]


def test_statistics_made_in_code_are_checked_as_well() -> None:
    content = copy.deepcopy(entry())
    content["statistics"]["state"]["arm"]["min"] = np.array([np.nan, 0.0])
    with pytest.raises(ValueError, match=r"got nan at \[0\]"):
        DatasetMetadata.model_validate(content)


@pytest.mark.parametrize("mode", ["min_max", "mean_std", "scale"])
def test_a_state_that_overflows_is_named(tmp_path: Path, mode: str) -> None:
    content = entry()
    small = {"min": [0.0, 0.0], "max": [1e-9, 1.0], "mean": [0.0, 0.0], "std": [1e-9, 1.0]}
    content["statistics"]["state"]["arm"].update(small)
    transform = StateActionTransform(apply_to=["state.arm"], normalization_modes={"state.arm": mode})
    transform.set_metadata(load_metadata(store(tmp_path, content), TAG))
    with pytest.raises(ObservationError, match=r"state.arm: numbers up to 3e\+38 are too far"):
        transform({"state.arm": torch.tensor([[3e38, 0.0]])})
