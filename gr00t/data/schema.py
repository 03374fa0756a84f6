"""The description of a training set that a checkpoint carries: experiment_cfg/metadata.json.

It holds the statistics by which states and actions were normalized and the shape of every key, per
embodiment. The attribute names are those of Isaac-GR00T N1.5, since data configurations written for it read
them.
"""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FiniteFloat,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    model_validator,
)

from gr00t.data.embodiment_tags import EmbodimentTag, tag_of
from gr00t.data.errors import MetadataError
from gr00t.data.statistics_rules import contradictions, finite_numbers
from gr00t.spelling import did_you_mean
from gr00t.strict_json import parse_json

logger = logging.getLogger(__name__)

# Kept in float64, so that casting to the dtype of an observation is the only rounding.
FloatArray = Annotated[
    np.ndarray,
    BeforeValidator(finite_numbers),
    PlainSerializer(lambda value: value.tolist(), when_used="json"),
]


class RotationType(Enum):
    """How a rotation is written down; the Euler conventions are intrinsic, r = x, p = y, y = z."""

    AXIS_ANGLE = "axis_angle"
    QUATERNION = "quaternion"
    ROTATION_6D = "rotation_6d"
    MATRIX = "matrix"
    EULER_ANGLES_RPY = "euler_angles_rpy"
    EULER_ANGLES_RYP = "euler_angles_ryp"
    EULER_ANGLES_PRY = "euler_angles_pry"
    EULER_ANGLES_PYR = "euler_angles_pyr"
    EULER_ANGLES_YRP = "euler_angles_yrp"
    EULER_ANGLES_YPR = "euler_angles_ypr"


class DatasetStatisticalValues(BaseModel):
    """Statistics of one key over the training set, each of shape (A,)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    max: FloatArray
    min: FloatArray
    mean: FloatArray
    std: FloatArray
    q01: FloatArray
    q99: FloatArray


class DatasetStatistics(BaseModel):
    """Statistics of all state and action keys, without their modality prefix."""

    state: dict[str, DatasetStatisticalValues]
    action: dict[str, DatasetStatisticalValues]


class VideoMetadata(BaseModel):
    """One camera: its resolution is (width, height)."""

    resolution: tuple[PositiveInt, PositiveInt]
    channels: PositiveInt
    fps: FiniteFloat


class StateActionMetadata(BaseModel):
    """One state or action key: its shape and how its numbers are to be understood."""

    absolute: bool
    rotation_type: RotationType | None = None
    shape: tuple[PositiveInt, ...]
    continuous: bool


class DatasetModalities(BaseModel):
    """All cameras, states and actions, without their modality prefix."""

    video: dict[str, VideoMetadata]
    state: dict[str, StateActionMetadata]
    action: dict[str, StateActionMetadata]


class DatasetMetadata(BaseModel):
    """What a checkpoint knows of the data of one embodiment."""

    statistics: DatasetStatistics
    modalities: DatasetModalities
    embodiment_tag: EmbodimentTag

    @model_validator(mode="after")
    def _consistent(self) -> DatasetMetadata:
        problems = []
        for modality in ("state", "action"):
            statistics, entries = getattr(self.statistics, modality), getattr(self.modalities, modality)
            for key in statistics.keys() - entries.keys():
                hint = did_you_mean(key, entries)
                problems.append(f"statistics.{modality}.{key}: modalities.{modality} has no such key; {hint}")
            for key in entries.keys() - statistics.keys():
                problems.append(f"modalities.{modality}.{key}: there are no statistics of it")
            for key in statistics.keys() & entries.keys():
                found = contradictions(dict(statistics[key]), entries[key].shape)
                problems += [f"statistics.{modality}.{key}{problem}" for problem in found]
        if problems:
            raise ValueError("\n".join(sorted(problems)))
        return self

    def entry(self, table: DatasetStatistics | DatasetModalities, key: str) -> Any:
        """Return the entry of `statistics` or `modalities` for a prefixed key such as `state.x`.

        Raises:
            MetadataError: the key is not of the form `modality.name`, or the metadata does not have it.
        """
        modality, _, name = key.partition(".")
        entries = getattr(table, modality, None)
        if not name or not isinstance(entries, dict):
            raise MetadataError(f"key {key!r}: expected video.NAME, state.NAME or action.NAME")
        if name not in entries:
            known = [f"{modality}.{other}" for other in entries]
            raise MetadataError(f"the checkpoint's metadata has no key {key!r}; {did_you_mean(key, known)}")
        return entries[name]


def load_metadata(path: Path, embodiment_tag: EmbodimentTag) -> DatasetMetadata:
    """Read the metadata of one embodiment from a checkpoint's metadata.json.

    Raises:
        MetadataError: the file is missing or malformed, or it has no entry for the embodiment.
    """
    if not path.is_file():
        raise MetadataError(
            f"{path}: not found; a checkpoint needs it for the statistics of states and actions: copy the "
            f"folder {path.parent.name} of its training beside its weights"
        )
    try:
        by_tag = parse_json(path.read_text(encoding="utf-8"), finite=False)
    except OSError as error:
        raise MetadataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MetadataError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(by_tag, dict):
        raise MetadataError(f"{path}: expected an object with one entry per embodiment tag")
    tag = embodiment_tag.value
    if tag not in by_tag:
        tag = _other_name(path, by_tag, embodiment_tag)
    try:
        metadata = DatasetMetadata.model_validate(by_tag[tag])
    except ValidationError as error:
        problems = problems_of(error, tag)
        lines = [f"{path}:", *problems] if problems[1:] else [f"{path}: {problems[0]}"]
        raise MetadataError("\n  ".join(lines)) from error
    if metadata.embodiment_tag is not embodiment_tag:
        raise MetadataError(
            f"{path}: the entry {tag!r} has embodiment_tag {metadata.embodiment_tag.value!r}; the two choose "
            "different weights, and one of them is wrong"
        )
    return metadata


def _other_name(path: Path, by_tag: dict[str, Any], wanted: EmbodimentTag) -> str:
    """The key of the one entry that is of the wanted embodiment under another name.

    Raises:
        MetadataError: there is none, or more than one.
    """
    same = [
        key
        for key, entry in by_tag.items()
        if tag_of(key) is wanted or (isinstance(entry, dict) and entry.get("embodiment_tag") == wanted.value)
    ]
    if len(same) == 1:
        logger.info("%s: the entry %r is that of embodiment tag %r", path, same[0], wanted.value)
        return same[0]
    use = [tag.value for key in by_tag if (tag := tag_of(key)) is not None]
    hint = f"; use --embodiment-tag {use[0]}" if len(by_tag) == 1 and use else ""
    raise MetadataError(
        f"{path}: no metadata for embodiment tag {wanted.value!r}; "
        f"this checkpoint has: {', '.join(by_tag) or 'none'}{hint}"
    )


def problems_of(error: ValidationError, whole: str) -> list[str]:
    """Every problem that a model of this file found, as `WHERE: WHAT`; `whole` is where the model stands."""
    problems = []
    for one in error.errors():
        what = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "value_error" and not one["loc"]:  # of `_consistent`, which says where
            problems += [f"{whole}.{line}" for line in what.split("\n")]
        else:
            problems.append(f"{'.'.join([whole, *map(str, one['loc'])])}: {what}")
    return problems
