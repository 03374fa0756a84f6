"""metadata.json and embodiment tags. Oracle: NVIDIA's file format and its table of embodiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.embodiment_tags import EMBODIMENT_TAG_MAPPING, EmbodimentTag
from gr00t.data.errors import MetadataError
from gr00t.data.schema import DatasetMetadata, load_metadata
from tests.data.recorded import Recorded


@pytest.fixture
def stored(recorded: Recorded, tmp_path: Path) -> Path:
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(recorded.info["metadata_json"]))
    return path


def test_attributes_are_those_that_user_code_reads(stored: Path, recorded: Recorded) -> None:
    metadata = load_metadata(stored, EmbodimentTag.NEW_EMBODIMENT)
    source = recorded.info["metadata_json"]["new_embodiment"]
    assert metadata.embodiment_tag is EmbodimentTag.NEW_EMBODIMENT
    assert metadata.modalities.video["image"].resolution == (256, 256)
    assert metadata.modalities.state["gripper"].shape == (2,)
    assert metadata.statistics.state["gripper"].max.dtype == np.float64
    assert metadata.statistics.action["x"].q99.tolist() == source["statistics"]["action"]["x"]["q99"]


def test_json_round_trip_is_exact(recorded: Recorded) -> None:
    metadata = recorded.metadata()
    again = DatasetMetadata.model_validate_json(metadata.model_dump_json())
    assert again.model_dump(mode="json") == recorded.info["metadata_json"]["new_embodiment"]


def test_numbers_of_the_embodiments() -> None:
    assert EMBODIMENT_TAG_MAPPING == {"new_embodiment": 31, "oxe_droid": 17, "agibot_genie1": 26, "gr1": 24}


@pytest.mark.parametrize(
    ("tag", "hint"), [("new_embodyment", "did you mean new_embodiment"), ("?", "known: agibot_genie1, gr1")]
)
def test_unknown_tag_names_the_nearest(tag: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"unknown embodiment tag {tag!r}; {hint}".replace("?", r"\?")):
        EmbodimentTag(tag)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"metadata.json: not found"):
        load_metadata(tmp_path / "metadata.json", EmbodimentTag.GR1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a JSON file"), ("[]", "expected an object"), ("{}", "this checkpoint has: none")],
)
def test_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(text)
    with pytest.raises(MetadataError, match=f"metadata.json: .*{message}"):
        load_metadata(path, EmbodimentTag.GR1)


def test_other_embodiment_lists_what_there_is(stored: Path) -> None:
    with pytest.raises(
        MetadataError, match="no metadata for embodiment tag 'gr1'; this checkpoint has: new_embodiment"
    ):
        load_metadata(stored, EmbodimentTag.GR1)


def test_malformed_entry_is_named_by_its_path(stored: Path) -> None:
    content: dict[str, Any] = json.loads(stored.read_text())
    del content["new_embodiment"]["statistics"]["action"]["x"]["min"]
    stored.write_text(json.dumps(content))
    with pytest.raises(MetadataError, match=r"new_embodiment.statistics.action.x.min: Field required"):
        load_metadata(stored, EmbodimentTag.NEW_EMBODIMENT)
