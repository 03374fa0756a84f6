"""meta/modality.json: which numbers are which states and actions, where videos and texts are.

Entries and their defaults are those of Isaac-GR00T N1.5, so that a file written for it means the same here.
Of `original_key` that is: where it is missing, states are in `observation.state`, actions in `action`, and a
camera or an annotation in the feature of its own name (the annotation's with `annotation.` before it).

LeRobot itself writes no such file; see `default_modality`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, FiniteFloat, NonNegativeInt, ValidationError

from gr00t.data.lerobot.meta.default_modality import file_needed, modality_without_file
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.features import ACTION, IMAGES, STATE, TASK_INDEX, camera_features
from gr00t.data.lerobot.meta.meta_files import read_object
from gr00t.data.schema import RotationType, StateActionMetadata
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

MODALITY = Path("meta/modality.json")
KINDS = ("state", "action", "video", "annotation")


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _known_rotation(value: Any) -> Any:
    names = [rotation.value for rotation in RotationType]
    if isinstance(value, str) and value not in names:
        close = did_you_mean(value, names)
        raise ValueError(close if close.startswith("known") else f"{close} known: {', '.join(names)}")
    return value


def _known_dtype(value: Any) -> Any:
    try:
        np.dtype(value)
    except TypeError:
        raise ValueError("expected a name of NumPy's, such as float32 or int64") from None
    return value


Index = Annotated[NonNegativeInt, BeforeValidator(_no_truth_value)]


class _Entry(BaseModel):
    """A camera or an annotation."""

    original_key: str | None = None


class _ColumnEntry(_Entry):
    """A state or an action."""

    start: Index
    end: Index
    absolute: bool = True
    rotation_type: Annotated[RotationType | None, BeforeValidator(_known_rotation)] = None
    dtype: Annotated[str, BeforeValidator(_known_dtype)] = "float64"
    range: tuple[FiniteFloat, FiniteFloat] | None = None


@dataclass(frozen=True)
class Column:
    """Numbers `start` to `end` of a parquet column: one state or action key.

    Attributes:
        original_key: name of the column.
        start: first number.
        end: behind the last one.
        absolute: False for a change (a delta), which is zero where an episode has ended.
        rotation_type: how a rotation is written down, where it is one.
        dtype: of the values, by their description; a whole number is not continuous.
        range: lowest and highest value, where told.
    """

    original_key: str
    start: int
    end: int
    absolute: bool = True
    rotation_type: RotationType | None = None
    dtype: str = "float64"
    range: tuple[float, float] | None = None

    @property
    def continuous(self) -> bool:
        """Whether the numbers are of a floating-point type."""
        return np.issubdtype(np.dtype(self.dtype), np.floating)

    def described(self) -> StateActionMetadata:
        """The same as a checkpoint's metadata says it."""
        return StateActionMetadata(
            absolute=self.absolute,
            rotation_type=self.rotation_type,
            shape=(self.end - self.start,),
            continuous=self.continuous,
        )


@dataclass(frozen=True)
class Modality:
    """What modality.json says.

    Attributes:
        columns: state and action keys (`state.x`) and where their numbers are.
        cameras: video keys (`video.image`) and their features.
        annotations: keys (`annotation.human.action.task_description`) and the columns of task numbers.
        refused: keys and whole kinds that the file has, but of which it says nothing sensible.
        written: False where there is no such file, and this is what needs no choice.
    """

    columns: dict[str, Column]
    cameras: dict[str, str]
    annotations: dict[str, str]
    refused: frozenset[str] = frozenset()
    written: bool = True


def read_modality(folder: Path, features: Mapping[str, Any], faults: list[Fault]) -> Modality:
    """Read the file; entries that say nothing sensible are left out, each with a fault.

    Args:
        folder: of the data set.
        features: of info.json.
        faults: gets what is wrong.
    """
    path = folder / MODALITY
    written = path.exists() or path.is_symlink()
    content = read_object(path, folder, faults) if written else modality_without_file(features)
    if content is None:
        return Modality({}, {}, {}, frozenset(KINDS))
    columns: dict[str, Column] = {}
    named: dict[str, dict[str, str]] = {"video": {}, "annotation": {}}
    refused = set()
    for kind in KINDS:
        entries = content.get(kind) or {}
        if not isinstance(entries, dict):
            faults.append(Fault(path, f"expected an object, got {entries!r}", kind))
            refused.add(kind)
            continue
        for written_name, given in entries.items():
            # Some files repeat the kind in a name: "annotation": {"annotation.task": ...}.
            short = written_name.removeprefix(f"{kind}.")
            name = written_name if short in entries else short
            entry = _parse(kind, name, given, path, faults)
            if entry is None:
                refused.add(f"{kind}.{name}")
                continue
            column = _original_key(kind, name, entry, features)
            if isinstance(entry, _ColumnEntry):
                known = entry.model_dump(exclude={"original_key"})
                columns[f"{kind}.{name}"] = Column(original_key=column, **known)
            else:
                named[kind][f"{kind}.{name}"] = column
    return Modality(columns, named["video"], named["annotation"], frozenset(refused), written)


def unknown_keys(
    folder: Path, modality: Modality, features: Mapping[str, Any], wanted: Collection[str]
) -> list[Fault]:
    """A fault for each key that a data configuration wants and the set does not have."""
    path = folder / MODALITY
    known: dict[str, Collection[str]] = {
        **{
            kind: [key for key in modality.columns if key.startswith(f"{kind}.")]
            for kind in ("state", "action")
        },
        "video": modality.cameras,
        "annotation": modality.annotations,
    }
    missing = [
        key
        for key in wanted
        if key not in known.get(key.partition(".")[0], ())
        and not {key, key.partition(".")[0]} & modality.refused
    ]
    if missing and not modality.written:
        offered = [key for keys in known.values() for key in keys]
        return [file_needed(path, missing, offered, features)]
    faults = []
    for key in missing:
        kind, _, name = key.partition(".")
        if kind not in known:
            faults.append(Fault(path, f"no {key!r}", allowed=f"keys begin with {', '.join(KINDS)}"))
            continue
        near = did_you_mean(key, known[kind])
        listed = f"{near} known: {', '.join(sorted(known[kind]))}" if near.startswith("did") else near
        helps = ""
        if kind == "video":
            cameras = ", ".join(camera_features(features)) or "none"
            helps = (
                f'cameras of the set: {cameras}; name one by "video": {{"{name}": {{"original_key": ...}}}}'
            )
        elif kind == "annotation":
            helps = f'task numbers: "annotation": {{"{name}": {{"original_key": "{TASK_INDEX}"}}}}'
        faults.append(
            Fault(
                path,
                f"no {key!r}",
                allowed=listed if known[kind] else f"there is no {kind} at all",
                helps=helps,
            )
        )
    return faults


def _parse(kind: str, name: str, given: Any, path: Path, faults: list[Fault]) -> _Entry | None:
    place = f"{kind}.{name}"
    numbers = kind in ("state", "action")
    if not isinstance(given, dict):
        example = '{"start": 0, "end": 6}' if numbers else '{"original_key": "' + f'{IMAGES}{name}"' + "}"
        example = example if kind != "annotation" else f'{{"original_key": "{TASK_INDEX}"}}'
        faults.append(Fault(path, f"expected an object, got {given!r}", place, f"such as {example}"))
        return None
    model = _ColumnEntry if numbers else _Entry
    for key in given.keys() - model.model_fields.keys():
        close = difflib.get_close_matches(key, model.model_fields)
        if close:
            logger.warning("%s: %s: %r is passed over; did you mean %s?", path, place, key, close[0])
    try:
        entry = model.model_validate(given)
    except ValidationError as error:
        for one in error.errors():
            where = ".".join(map(str, one["loc"]))
            what = str(one["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
            got = "" if one["type"] == "missing" else f", got {one['input']!r}"
            faults.append(Fault(path, f"{where}: {what}{got}", place))
        return None
    if isinstance(entry, _ColumnEntry) and entry.start >= entry.end:
        faults.append(Fault(path, f"start {entry.start} is not below end {entry.end}", place))
        return None
    if entry.original_key == "":
        faults.append(Fault(path, "original_key: expected a name, got ''", place))
        return None
    return entry


def _original_key(kind: str, name: str, entry: _Entry, features: Mapping[str, Any]) -> str:
    """Where an entry's values are."""
    if entry.original_key is not None:
        return entry.original_key
    if kind == "annotation":
        return f"annotation.{name}"
    if kind == "video":
        return f"{IMAGES}{name}" if name not in features and f"{IMAGES}{name}" in features else name
    usual = {"state": STATE, "action": ACTION}[kind]
    # null says: the column of the same name; NVIDIA's programs read it so, but for their statistics.
    return name if "original_key" in entry.model_fields_set and name in features else usual
