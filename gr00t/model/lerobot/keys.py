"""Under which names observations and actions of a groot policy come and go.

Without a data configuration they follow from the folder: `video.NAME` for `observation.images.NAME`,
`state.state`, `action.action`. One that is given serves with its own names, if it has as many cameras and
its states and actions add up; its transforms are not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import DatasetMetadata
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json
from gr00t.model.lerobot.processors import Bounds
from gr00t.model.lerobot.rules import IMAGES, GrootRules

logger = logging.getLogger(__name__)

MODALITY_FILE = "modality.json"
INSTRUCTION_KEY = "annotation.human.action.task_description"
# State keys of one number each in every data set of N1.5; what a client sends is checked against this.
_SINGLE = ("x", "y", "z", "roll", "pitch", "yaw")


@dataclass(frozen=True)
class GrootKeys:
    """The names of a groot policy's cameras, states and actions.

    Attributes:
        cameras: our key of each camera, in the order in which the model sees them.
        state: width of each state key, in order.
        action: width of each action key, in order.
        language: key of the instruction.
        horizon: actions in one answer.
    """

    cameras: tuple[str, ...]
    state: Mapping[str, int]
    action: Mapping[str, int]
    language: str
    horizon: int

    def modality_config(self) -> dict[str, ModalityConfig]:
        """The keys and time steps, as a data configuration has them."""
        now, chunk = [0], list(range(self.horizon))
        return {
            "video": ModalityConfig(delta_indices=now, modality_keys=list(self.cameras)),
            "state": ModalityConfig(delta_indices=now, modality_keys=list(self.state)),
            "action": ModalityConfig(delta_indices=chunk, modality_keys=list(self.action)),
            "language": ModalityConfig(delta_indices=now, modality_keys=[self.language]),
        }

    def metadata(self, rules: GrootRules) -> DatasetMetadata:
        """Shapes and ranges by these keys. lerobot needs no more: mean and quantiles are the range's own."""
        camera = zip(self.cameras, rules.resolutions, strict=True)
        vectors = {"state": (self.state, rules.state), "action": (self.action, rules.action)}
        shapes = {
            kind: {key: _shape(width) for key, width in keys.items()} for kind, (keys, _) in vectors.items()
        }
        content = {
            "embodiment_tag": metadata_tag(rules).value,
            "modalities": {
                "video": {
                    _name(key): {"resolution": size, "channels": 3, "fps": 0.0} for key, size in camera
                },
                **{kind: {_name(key): shape for key, shape in keys.items()} for kind, keys in shapes.items()},
            },
            "statistics": {kind: _statistics(keys, bounds) for kind, (keys, bounds) in vectors.items()},
        }
        return DatasetMetadata.model_validate(content)


def metadata_tag(rules: GrootRules) -> EmbodimentTag:
    """The tag under which our metadata stands; lerobot's numbers decide which weights are used."""
    known = {tag.value for tag in EmbodimentTag}
    return (
        EmbodimentTag(rules.embodiment_tag) if rules.embodiment_tag in known else EmbodimentTag.NEW_EMBODIMENT
    )


def derived_keys(rules: GrootRules) -> GrootKeys:
    """The names that follow from the folder itself."""
    return GrootKeys(
        cameras=tuple(f"video.{_camera_name(key)}" for key in rules.cameras),
        state={"state.state": len(rules.state.low)},
        action={"action.action": len(rules.action.low)},
        language=INSTRUCTION_KEY,
        horizon=rules.horizon,
    )


def fitted_keys(rules: GrootRules, modalities: Mapping[str, ModalityConfig], folder: Path) -> GrootKeys:
    """The names of a given data configuration, if it fits the folder.

    Args:
        rules: of the folder.
        modalities: of the data configuration.
        folder: may have a `modality.json`, as data sets of N1.5 do, that says how wide each key is.

    Raises:
        CheckpointError: it does not fit; both are listed.
    """
    given = {kind: config.modality_keys for kind, config in modalities.items()}
    own = derived_keys(rules)
    if {kind: [*keys] for kind, keys in given.items()} == {
        kind: config.modality_keys for kind, config in own.modality_config().items()
    }:
        return own
    declared = _declared_widths(folder / MODALITY_FILE)
    problems: list[str] = []
    cameras = _paired_cameras(rules, given.get("video", []), problems)
    state = _widths("state", given.get("state", []), len(rules.state.low), declared, problems)
    action = _widths("action", given.get("action", []), len(rules.action.low), declared, problems)
    for kind in ("video", "state"):
        steps = modalities[kind].delta_indices if kind in modalities else [0]
        if steps != [0]:
            problems.append(f"it asks for {kind} at time steps {steps}, the policy takes [0]")
    chunk = modalities["action"].delta_indices if "action" in modalities else []
    if chunk != list(range(len(chunk))) or not 1 <= len(chunk) <= rules.horizon:
        problems.append(f"it asks for actions at {chunk}, the policy predicts 0 to {rules.horizon - 1}")
    if problems:
        raise CheckpointError(
            f"the data config does not fit {folder}:\n  "
            + "\n  ".join(problems)
            + f"\n  the folder has {', '.join(rules.cameras)}; {len(rules.state.low)} numbers of state, "
            f"{len(rules.action.low)} of action"
            + "\n  the data config has "
            + "; ".join(", ".join(keys) for kind, keys in given.items() if kind != "language")
            + "\n  without --data-config the folder's own keys are served: "
            + ", ".join([*own.cameras, *own.state, own.language])
        )
    language = given.get("language", []) or [INSTRUCTION_KEY]
    return GrootKeys(tuple(cameras), state, action, language[0], len(chunk))


def _paired_cameras(rules: GrootRules, given: Sequence[str], problems: list[str]) -> list[str]:
    """The given key of each of the folder's cameras: of the same name, else the next in order."""
    if len(given) != len(rules.cameras):
        problems.append(f"it has {len(given)} cameras, the policy {len(rules.cameras)}")
        return []
    by_name = {_camera_name(key): key for key in rules.cameras}
    same = {by_name[_name(key)]: key for key in given if _name(key) in by_name}
    rest = iter([key for key in given if key not in same.values()])
    paired = {key: same[key] if key in same else next(rest) for key in rules.cameras}
    guessed = [f"{ours} is {key}" for key, ours in paired.items() if key not in same]
    if guessed:
        logger.warning(
            "cameras by their order, lerobot's is alphabetical: %s; check this", "; ".join(guessed)
        )
    return list(paired.values())


def _widths(
    kind: str, keys: Sequence[str], total: int, declared: Mapping[str, tuple[int, int]], problems: list[str]
) -> dict[str, int]:
    """How many numbers each key has, in order: as declared, or as there is only one way."""
    if keys and all(key in declared for key in keys):
        widths = {key: declared[key][1] - declared[key][0] for key in keys}
        starts = [declared[key][0] for key in keys]
        if sum(widths.values()) == total and starts == _starts(list(widths.values())):
            return widths
        spans = ", ".join(f"{key} {declared[key][0]} to {declared[key][1]}" for key in keys)
        problems.append(
            f"{MODALITY_FILE} of the folder has {spans}; expected 0 to {total}, one after the other"
        )
        return {}
    if len(keys) == 1:
        return {keys[0]: total}
    if len(keys) == total:
        return dict.fromkeys(keys, 1)
    wide = [key for key in keys if _name(key) not in _SINGLE]
    # For states alone: every request says how wide they are, while nobody would notice wrong actions.
    if kind == "state" and len(wide) == 1 and len(keys) < total:
        return {key: total - len(keys) + 1 if key in wide else 1 for key in keys}
    problems.append(
        f"its {len(keys)} {kind} keys cannot be told apart among {total} numbers; put the {MODALITY_FILE} of "
        "the data set (start and end of each) into the folder"
        if 1 < len(keys) < total
        else f"it has {len(keys)} {kind} keys, the policy {total} numbers"
    )
    return {}


def _declared_widths(path: Path) -> dict[str, tuple[int, int]]:
    """Start and end of every state and action key, where the folder says."""
    if not is_there(path):
        return {}
    content = Section(str(path), read_json(path))
    spans = {}
    for kind in ("state", "action"):
        table = content.section(kind)
        for name in table.values:
            span = table.section(name)
            start, end = span.integer("start", at_least=0), span.integer("end")
            if end <= start:
                raise span.error("end", f"must be above start, got {start} to {end}")
            spans[f"{kind}.{name}"] = (start, end)
    return spans


def _starts(widths: list[int]) -> list[int]:
    return [sum(widths[:place]) for place in range(len(widths))]


def _camera_name(key: str) -> str:
    """`front` of `observation.images.front`, `image` of `observation.image`."""
    return key.removeprefix(f"{IMAGES}.").removeprefix("observation.")


def _name(key: str) -> str:
    return key.partition(".")[2]


def _shape(width: int) -> dict[str, object]:
    return {"absolute": True, "rotation_type": None, "shape": [width], "continuous": True}


def _statistics(keys: Mapping[str, int], bounds: Bounds) -> dict[str, object]:
    found: dict[str, object] = {}
    start = 0
    for key, width in keys.items():
        low, high = bounds.low[start : start + width], bounds.high[start : start + width]
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        spread = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        found[_name(key)] = {
            **{"min": [*low], "max": [*high], "q01": [*low], "q99": [*high]},
            **{"mean": middle, "std": spread},
        }
        start += width
    return found
