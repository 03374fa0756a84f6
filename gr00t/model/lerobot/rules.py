"""What a groot folder of lerobot says of its observations and actions, as facts.

They come from config.json (which cameras, how many numbers), policy_preprocessor.json (the embodiment, how
the instruction is treated) and the statistics beside it and beside policy_postprocessor.json. An exported
model has them in one file of its own, as they were read: it needs none of lerobot's.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.model.checkpoint.folder_kind import CONFIG_FILE
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json
from gr00t.model.lerobot.processors import (
    PACK_STEP,
    POSTPROCESSOR,
    PREPROCESSOR,
    UNPACK_STEP,
    Bounds,
    find_step,
    read_bounds,
)

# In an exported model; `RULES_FORMAT` says how it is to be read.
RULES_FILE = "lerobot_groot.json"
RULES_FORMAT = "lerobot groot rules 1"
STATE = "observation.state"
ACTION = "action"
IMAGES, IMAGE = "observation.images", "observation.image"
# What lerobot 0.4.0 to 0.5.1 write of the two steps; anything else may change what the model sees.
_PACK_SETTINGS = (
    *("state_horizon", "action_horizon", "max_state_dim", "max_action_dim", "language_key"),
    *("formalize_language", "embodiment_tag", "embodiment_mapping", "normalize_min_max"),
)
_UNPACK_SETTINGS = ("env_action_dim", "normalize_min_max")
# lerobot's model predicts so many actions, whatever chunk_size says beyond.
_HORIZON = 16
DEFAULT_INSTRUCTION = "Perform the task."


@dataclass(frozen=True)
class GrootRules:
    """How lerobot prepares an observation for a policy, and what it makes of the predicted actions.

    Attributes:
        cameras: lerobot's keys, in the order in which the model sees them: sorted.
        resolutions: (width, height) of each in training.
        state: smallest and largest numbers of `observation.state`, (A,) each.
        action: the same of `action`.
        embodiment_tag: what the folder calls the robot.
        embodiment: number of its weights; 0 for a name that lerobot does not know.
        horizon: actions in one answer.
        formalize_language: instructions in lower case and without punctuation.
        max_state_dim: numbers to which a state is padded.
        max_action_dim: numbers of an action as the model predicts it.
        renamed: lerobot's key by the name under which a robot sends it, where they differ.
        tokenizer: repository of the tokenizer.
    """

    cameras: tuple[str, ...]
    resolutions: tuple[tuple[int, int], ...]
    state: Bounds
    action: Bounds
    embodiment_tag: str
    embodiment: int
    horizon: int
    formalize_language: bool
    max_state_dim: int
    max_action_dim: int
    renamed: tuple[tuple[str, str], ...]
    tokenizer: str

    def write(self, folder: Path) -> None:
        """Write them into an exported model's folder."""
        content = {"format": RULES_FORMAT, **dataclasses.asdict(self)}
        (folder / RULES_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_rules(folder: Path) -> GrootRules | None:
    """Return the rules of a groot folder, or of what was exported from one; None for any other folder.

    Raises:
        CheckpointError: a file is missing or damaged, or says something that is not known here.
    """
    if is_there(folder / RULES_FILE):
        return _read_exported(folder / RULES_FILE)
    config = read_json(folder / CONFIG_FILE) if is_there(folder / CONFIG_FILE) else {}
    return _read_groot(folder, config) if config.get("type") == "groot" else None


def _read_groot(folder: Path, values: dict[str, Any]) -> GrootRules:
    config = Section(str(folder / CONFIG_FILE), values)
    pack = find_step(folder, PREPROCESSOR, PACK_STEP)
    unpack = find_step(folder, POSTPROCESSOR, UNPACK_STEP)
    cameras = _cameras(config)
    state_dim = _width(config, "input_features", STATE)
    action_dim = _width(config, "output_features", ACTION)
    max_state_dim, max_action_dim = config.integer("max_state_dim", 64), config.integer("max_action_dim", 32)
    for key, dim, most in ((STATE, state_dim, max_state_dim), (ACTION, action_dim, max_action_dim)):
        if dim > most:
            raise config.error(key, f"has {dim} numbers, the model takes {most}")
    settings, answer = pack.settings, unpack.settings
    settings.only(_PACK_SETTINGS)
    answer.only(_UNPACK_SETTINGS)
    for section in (settings, answer):
        section.one_of("normalize_min_max", (True,), True)
    if answer.integer("env_action_dim", 0, at_least=0) != 0:  # 0: as many as config.json says
        answer.agrees("env_action_dim", action_dim, f"{CONFIG_FILE}: output_features.{ACTION}.shape")
    settings.agrees("max_state_dim", max_state_dim, f"{CONFIG_FILE}: max_state_dim")
    settings.agrees("max_action_dim", max_action_dim, f"{CONFIG_FILE}: max_action_dim")
    settings.one_of("language_key", ("task",), "task")
    settings.one_of("state_horizon", (1,), 1)
    # What was trained with is in the pipeline; config.json could be edited, and lerobot would not notice.
    tag = pack.config.get("embodiment_tag", "new_embodiment")
    if not isinstance(tag, str):
        raise settings.error("embodiment_tag", f"must be text, got {tag!r}")
    if values.get("embodiment_tag", tag) != tag:
        raise config.error(
            "embodiment_tag", f"= {values['embodiment_tag']!r}, but {pack.file} says {tag!r}: which weights?"
        )
    return GrootRules(
        cameras=tuple(cameras),
        resolutions=tuple(cameras.values()),
        state=read_bounds(folder, pack, STATE).fitted(state_dim, low=0.0, high=1.0),
        action=read_bounds(folder, unpack, ACTION).fitted(action_dim, low=0.0, high=0.0),
        embodiment_tag=tag,
        embodiment=_embodiment(settings, tag),
        horizon=min(config.integer("chunk_size", 50), _HORIZON),
        formalize_language=settings.flag("formalize_language", False),
        max_state_dim=max_state_dim,
        max_action_dim=max_action_dim,
        renamed=pack.renamed,
        tokenizer=str(values.get("tokenizer_assets_repo", "")),
    )


def _cameras(config: Section) -> dict[str, tuple[int, int]]:
    """Width and height of every camera, in lerobot's order."""
    features = config.section("input_features").values
    named = sorted(key for key in features if key.startswith(IMAGES))
    named = named or [key for key in (IMAGE,) if key in features]
    if not named:
        raise config.error("input_features", f"has no camera: no {IMAGES}.NAME, only {', '.join(features)}")
    found = {}
    for key in named:
        shape = _shape(config, "input_features", key)
        if len(shape) != 3 or shape[0] != 3:
            raise config.error(f"input_features.{key}", f"must have shape [3, height, width], got {shape}")
        found[key] = (shape[2], shape[1])
    return found


def _width(config: Section, features: str, key: str) -> int:
    shape = _shape(config, features, key)
    if len(shape) != 1:
        raise config.error(f"{features}.{key}", f"must have a shape of one number, got {shape}")
    return shape[0]


def _shape(config: Section, features: str, key: str) -> list[int]:
    table = config.section(features)
    if key not in table.values:
        raise config.error(features, f"has no {key}, only {', '.join(table.values) or 'nothing'}")
    shape = table.section(key).values.get("shape")
    if not isinstance(shape, list) or not shape or any(type(n) is not int or n < 1 for n in shape):
        raise config.error(f"{features}.{key}.shape", f"must be a list of positive integers, got {shape!r}")
    return shape


def _embodiment(settings: Section, tag: str) -> int:
    mapping = (
        settings.section("embodiment_mapping").values if "embodiment_mapping" in settings.values else _NUMBERS
    )
    number = mapping.get(tag, 0)
    if type(number) is not int or number < 0:
        raise settings.error(f"embodiment_mapping.{tag}", f"must be an integer >= 0, got {number!r}")
    return number


# lerobot's, where a folder does not say.
_NUMBERS = {
    "new_embodiment": 31,
    "oxe_droid": 17,
    "agibot_genie1": 26,
    "gr1": 24,
    "so100": 2,
    "unitree_g1": 3,
}


def _read_exported(path: Path) -> GrootRules:
    values = read_json(path)
    if values.pop("format", None) != RULES_FORMAT:
        raise CheckpointError(f"{path}: not written by this version: expected format {RULES_FORMAT!r}")
    names = {field.name for field in dataclasses.fields(GrootRules)}
    if values.keys() != names:
        wrong = ", ".join(sorted(values.keys() ^ names))
        raise CheckpointError(f"{path}: missing or unknown: {wrong}")
    try:
        bounds = {
            key: Bounds(tuple(values[key]["low"]), tuple(values[key]["high"])) for key in ("state", ACTION)
        }
        return GrootRules(
            **{
                **values,
                **bounds,
                "cameras": tuple(values["cameras"]),
                "resolutions": tuple((width, height) for width, height in values["resolutions"]),
                "renamed": tuple((old, new) for old, new in values["renamed"]),
            }
        )
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
