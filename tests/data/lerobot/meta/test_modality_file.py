"""meta/modality.json. Oracle: what NVIDIA's N1.5 schema makes of it, its defaults and its readings; shapes of
the files that NVIDIA published.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.schema import RotationType
from gr00t.experiment.data_config import load_data_config
from tests.data.lerobot.lerobot_sets import (
    CAMERA,
    CONFIG,
    MODALITY,
    opened,
    refusal,
    samples,
    set_column,
    set_info,
    set_modality,
    steps,
    table,
    written,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("sets") / "set", 4)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One episode of four rows, to be changed."""
    return shutil.copytree(made, tmp_path / "set")


def test_what_an_entry_says_reaches_the_metadata(folder: Path) -> None:
    entry = {"start": 0, "end": 1, "rotation_type": "euler_angles_rpy", "absolute": False, "dtype": "int64"}
    set_modality(folder, state={"x": {**entry, "range": [-1, 1]}})
    metadata = opened(folder).metadata(EmbodimentTag.NEW_EMBODIMENT)
    state, action = metadata.modalities.state["x"], metadata.modalities.action["x"]
    assert (state.rotation_type, state.absolute, state.continuous) == (
        RotationType.EULER_ANGLES_RPY,
        False,
        False,
    )
    assert (action.rotation_type, action.absolute, action.continuous) == (None, True, True)
    columns = Layout.read(folder).modality.columns
    assert (columns["state.x"].range, columns["action.x"].dtype) == ((-1.0, 1.0), "float64")


@pytest.mark.parametrize(
    "name", ["oxe_droid", "bimanual_panda_gripper", "bimanual_panda_hand", "single_panda_gripper"]
)
def test_a_set_with_rotations_serves_the_configurations_that_turn_them(tmp_path: Path, name: str) -> None:
    # Before, rotation_type was dropped, and these transforms refused the metadata.
    config = load_data_config(name)
    modalities = config.modality_config()
    entries: dict[str, dict[str, Any]] = {"state": {}, "action": {}}
    width = 0
    for kind in ("state", "action"):
        for key in modalities[kind].modality_keys:
            rotation = "quat" in key or "rot" in key
            size = 3 if "rot" in key else 4 if "quat" in key else 1
            form = {"rotation_type": "axis_angle" if size == 3 else "quaternion"} if rotation else {}
            entries[kind][key.partition(".")[2]] = {"start": width, "end": width + size, **form}
            width += size
    folder = written(tmp_path / "set", 4)
    values = np.random.default_rng(0).normal(size=(4, width)).tolist()
    set_column(table(folder), "observation.state", values)
    set_column(table(folder), "action", values)
    video = {key.partition(".")[2]: {"original_key": CAMERA} for key in modalities["video"].modality_keys}
    text = {
        key.partition(".")[2]: {"original_key": "task_index"} for key in modalities["language"].modality_keys
    }
    set_modality(folder, **entries, video=video, annotation=text)
    transform = config.transform()
    transform.set_metadata(opened(folder, modalities).metadata(EmbodimentTag.NEW_EMBODIMENT))


def test_keys_of_features_default_as_in_nvidias_schema(folder: Path) -> None:
    set_column(table(folder), "annotation.task", [0] * 4)
    set_column(table(folder), "x", [[7.0]] * 4)
    entry = {"start": 0, "end": 1}
    # Absent: observation.state and action; the camera's own name, or what our own writer means by it.
    set_modality(folder, state={"x": entry}, video={"image": {}}, annotation={"task": {}})
    assert Layout.read(folder).modality.cameras == {"video.image": CAMERA}
    assert samples(folder)["state.x"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert samples(folder)["annotation.task"][:, 0].tolist() == ["lift it"] * 4
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    set_info(
        folder, features={**features, "x": {"dtype": "float32", "shape": [1]}, "image": features[CAMERA]}
    )
    assert Layout.read(folder).modality.cameras == {"video.image": "image"}
    # null: the column of the same name, where there is one.
    null = {**entry, "original_key": None}
    set_info(folder, features={**features, "x": {"dtype": "float32", "shape": [1]}})
    set_modality(folder, state={"x": null, "y": null}, annotation={"task": {"original_key": None}})
    columns = Layout.read(folder).modality.columns
    assert {key: columns[key].original_key for key in ("state.x", "state.y")} == {
        "state.x": "x",
        "state.y": "observation.state",
    }
    assert samples(folder)["state.x"][:, 0, 0].tolist() == [7.0] * 4


@pytest.mark.parametrize(("start", "end", "absolute"), [("0", "1", "true"), (0.0, 1.0, 1), (0, "1", "yes")])
def test_numbers_and_truth_values_are_read_as_pydantic_reads_them(folder: Path, start, end, absolute) -> None:
    set_modality(folder, state={"x": {"start": start, "end": end, "absolute": absolute, "unit": "m"}})
    column = Layout.read(folder).modality.columns["state.x"]
    assert (column.start, column.end, column.absolute) == (0, 1, True)


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        (
            {"state": {"x": "observation.state"}},
            "state.x: expected an object, got 'observation.state'; such as",
        ),
        ({"video": {"image": CAMERA}}, f"video.image: expected an object, got '{CAMERA}'; such as {{\"orig"),
        (
            {"annotation": {"task": "task_index"}},
            "annotation.task: expected an object, got 'task_index'; such",
        ),
        ({"video": ["image"]}, "video: expected an object, got ['image']"),
        ({"video": {"image": {"original_key": 3}}}, "video.image: original_key: a valid string, got 3"),
        ({"video": {"image": {"original_key": ""}}}, "video.image: original_key: expected a name, got ''"),
        (
            {"state": {"x": {"start": 0, "end": 1, "rotation_type": "quaternions"}}},
            "state.x: rotation_type: did you mean quaternion? known: axis_angle, quaternion, rotation_6d, ",
        ),
        (
            {"state": {"x": {"start": 0, "end": 1, "rotation_type": "Euler_angles_rpy"}}},
            "state.x: rotation_type: did you mean euler_angles_rpy? ",
        ),
        (
            {"state": {"x": {"start": 0, "end": 1, "dtype": "flaot32"}}},
            "state.x: dtype: expected a name of NumPy's, such as float32 or int64, got 'flaot32'",
        ),
        ({"state": {"x": {"start": 0, "end": 1, "range": [0]}}}, "state.x: range.1: Field required"),
        ({"state": {"x": {"start": -1, "end": 1}}}, "state.x: start: greater than or equal to 0, got -1"),
        ({"state": {"x": {"start": None, "end": 1}}}, "state.x: start: a valid integer, got None"),
    ],
)
def test_entries_that_say_nothing_are_named(folder: Path, kinds: dict[str, Any], problem: str) -> None:
    set_modality(folder, **kinds)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'meta/modality.json'}: {problem}")
    assert "\n" not in message  # nor is the key said to be missing


def test_parts_behind_the_end_of_a_vector_are_all_named(folder: Path) -> None:
    set_modality(folder, state={"x": {"start": 0, "end": 5}}, action={"x": {"start": 1, "end": 2}})
    path = folder / "meta/modality.json"
    assert refusal(folder).splitlines()[1:] == [
        f"  {path}: state.x ends at 5, observation.state has 1 numbers",
        f"  {path}: action.x ends at 2, action has 1 numbers",
    ]


def test_a_misspelt_part_of_an_entry_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    set_modality(folder, state={"x": {"start": 0, "end": 1, "rotation_typ": "quaternion"}})
    with caplog.at_level(logging.WARNING):
        Layout.read(folder)
    assert "state.x: 'rotation_typ' is passed over; did you mean rotation_type?" in caplog.text


@pytest.mark.parametrize(
    ("kind", "key", "problem"),
    [
        ("state", "state.xx", "no 'state.xx'; did you mean state.x? known: state.x"),
        (
            "video",
            "video.imag",
            "no 'video.imag'; did you mean video.image? known: video.image; cameras of the set: ",
        ),
        ("video", "video.webcam", f'{CAMERA}; name one by "video": {{"webcam": {{"original_key": ...}}}}'),
        (
            "language",
            "annotation.tsk",
            'did you mean annotation.task? known: annotation.task; task numbers: "annot',
        ),
        ("language", "task", "no 'task'; keys begin with state, action, video, annotation"),
    ],
)
def test_keys_that_the_set_does_not_have_are_named(folder: Path, kind: str, key: str, problem: str) -> None:
    assert problem in refusal(folder, {**CONFIG, kind: steps(key)})


def test_a_camera_that_is_no_feature_is_named_once(folder: Path) -> None:
    set_modality(folder, video={"image": {"original_key": "observation.images.imagee"}})
    assert refusal(folder) == (
        f"{folder / 'meta/modality.json'}: video.image: there is no camera 'observation.images.imagee'; "
        f"did you mean {CAMERA}? the set has {CAMERA}; correct its original_key"
    )


def test_names_that_repeat_their_kind_mean_the_same(folder: Path) -> None:
    set_modality(folder, state={"state.x": {"start": 0, "end": 1}}, annotation={"annotation.task": {}})
    modality = Layout.read(folder).modality
    assert sorted(modality.columns) == ["action.x", "state.x"]
    assert modality.annotations == {"annotation.task": "annotation.task"}
    entries = {"state.x": {"start": 0, "end": 1}, "x": {"start": 0, "end": 1}}
    set_modality(folder, state=entries)
    assert sorted(Layout.read(folder).modality.columns) == ["action.x", "state.state.x", "state.x"]


def test_an_annotation_that_no_column_has_matters_to_those_who_want_it(folder: Path) -> None:
    # Some of NVIDIA's files name one.
    set_modality(folder, annotation={**MODALITY["annotation"], "human.validity": {}})
    assert find_faults(folder) == []
    message = refusal(folder, {**CONFIG, "language": steps("annotation.human.validity")})
    assert message.startswith(f"{table(folder)}: no column 'annotation.human.validity'; known: action, ")


def test_sets_without_states_or_with_unused_entries(folder: Path) -> None:
    set_column(table(folder), "observation.state", None)
    for kinds in ({"state": {}}, {"state": None}):
        set_modality(folder, **kinds)
        read = samples(folder, {key: value for key, value in CONFIG.items() if key != "state"})
        assert sorted(read) == ["action.x", "annotation.task", "video.image"]
        assert find_faults(folder) == []


# Kinds of entries in the files that NVIDIA published with N1.5, by name: widths of a robot's parts, cameras,
# annotations with and without original_key.
PUBLISHED = {
    "GR1": (
        (7, 6, 6, 3, 7, 6, 6, 3),
        {"ego_view": "observation.images.ego_view"},
        (None, None, "annotation.a"),
    ),
    "G1": ((6, 6, 3, 7, 7, 7, 7), {"rs_view": "observation.images.ego_view"}, ("task_index",)),
    "fractal": ((1, 1, 1, 1, 1, 1, 1, 1), {"image": "observation.images.image"}, ("task_index", None)),
    "so100": (
        (5, 1),
        {"front": "observation.images.front", "wrist": "observation.images.wrist"},
        ("task_index",),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_of_nvidias_published_files_parse(folder: Path, name: str) -> None:
    widths, cameras, annotations = PUBLISHED[name]
    ends = np.cumsum(widths).tolist()
    parts = {f"part{n}": {"start": end - widths[n], "end": end} for n, end in enumerate(ends)}
    texts = {f"human.{n}": {} if key is None else {"original_key": key} for n, key in enumerate(annotations)}
    video = {camera: {"original_key": key} for camera, key in cameras.items()}
    set_modality(folder, state=parts, action=parts, video=video, annotation=texts)
    modality = Layout.read(folder).modality
    assert {column.end for key, column in modality.columns.items() if key.startswith("action.")} == set(ends)
    assert {column.original_key for column in modality.columns.values()} == {"observation.state", "action"}
    assert list(modality.cameras.values()) == list(cameras.values())
    wanted = [key or f"annotation.human.{n}" for n, key in enumerate(annotations)]
    assert list(modality.annotations.values()) == wanted
