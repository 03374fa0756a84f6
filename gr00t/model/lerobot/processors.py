"""The two pipelines that lerobot saves beside a policy: which steps they have, and their statistics.

A pipeline is a JSON file with a list of steps; numbers of a step are in a safetensors file that it names.
Steps that are not known here would change what the model sees: they are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.data.statistics_rules import LARGEST
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json
from gr00t.model.checkpoint.weight_header import read_stored_tensors

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
PIPELINES = (PREPROCESSOR, POSTPROCESSOR)
PACK_STEP, UNPACK_STEP = "groot_pack_inputs_v3", "groot_action_unpack_unnormalize_v1"
_RENAME_STEP, _DEVICE_STEP = "rename_observations_processor", "device_processor"
# In lerobot's order. A step twice, or before another, would do something else to an observation.
_KNOWN = {
    PREPROCESSOR: (
        _RENAME_STEP,
        "to_batch_processor",
        PACK_STEP,
        "groot_eagle_encode_v3",
        "groot_eagle_collate_v3",
        _DEVICE_STEP,
    ),
    POSTPROCESSOR: (UNPACK_STEP, _DEVICE_STEP),
}


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest numbers of a vector in training, as float32 holds them."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what nothing can be normalized by.

        Raises:
            ValueError: not as many of both, one not finite, or a smallest above the largest.
        """
        if len(self.low) != len(self.high):
            raise ValueError(f"{len(self.low)} smallest numbers and {len(self.high)} largest")
        for place, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not (abs(low) <= LARGEST and abs(high) <= LARGEST):
                raise ValueError(f"expected finite numbers, got {low!r} and {high!r} at [{place}]")
            if low > high:
                raise ValueError(f"min is larger than max at [{place}]: {low:g} > {high:g}")

    def fitted(self, width: int, *, low: float, high: float) -> Bounds:
        """As many as the vector has numbers: cut, or filled up, as lerobot does it."""
        more = max(0, width - len(self.low))
        return Bounds((self.low + (low,) * more)[:width], (self.high + (high,) * more)[:width])


@dataclass(frozen=True)
class Step:
    """One step of a pipeline: the file it stands in, its settings, and where its numbers are.

    `renamed` is what the pipeline renames before it: the name that a robot sends, and lerobot's.
    """

    file: str
    name: str
    config: dict[str, Any]
    state_file: str | None
    renamed: tuple[tuple[str, str], ...]

    @property
    def settings(self) -> Section:
        """Its settings, for errors that name them."""
        return Section(self.file, self.config, f"{self.name}.")


def find_step(folder: Path, file: str, name: str) -> Step:
    """Return one step of a pipeline all of whose steps are known.

    Raises:
        CheckpointError: the file is missing or damaged, or has another step, or not exactly one of this name.
    """
    path = folder / file
    if not is_there(path):
        raise CheckpointError(
            f"{folder} has no {file}: lerobot's rules and statistics are in it and in the files beside it; "
            "copy all policy_*processor* files of the training into it"
        )
    steps = read_json(path).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{path}: steps must be a list of objects, got {steps!r}")
    names = [str(step.get("registry_name", step.get("class"))) for step in steps]
    unknown = [step for step in names if step not in _KNOWN[file]]
    if unknown:
        raise CheckpointError(
            f"{path}: the step {unknown[0]!r} is not known here; lerobot 0.4.0 to 0.5.1 write "
            f"{', '.join(_KNOWN[file])}"
        )
    if names.count(name) != 1:
        raise CheckpointError(f"{path}: expected one step {name!r}, got {', '.join(names) or 'none'}")
    if names != (order := [step for step in _KNOWN[file] if step in names]):
        raise CheckpointError(
            f"{path}: expected the steps once each, as {', '.join(order)}; got {', '.join(names)}"
        )
    for step, its in zip(steps, names, strict=True):
        if its == _DEVICE_STEP and isinstance(config := step.get("config"), dict):
            Section(str(path), config, f"{its}.").one_of("float_dtype", (None, "float32"), None)
    renamed = [_renamed(path, step) for step, its in zip(steps, names, strict=True) if its == _RENAME_STEP]
    step = steps[names.index(name)]
    config, state_file = step.get("config", {}), step.get("state_file")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: {name}.config must be an object, got {config!r}")
    if state_file is not None and not (
        isinstance(state_file, str) and state_file and Path(state_file).name == state_file
    ):
        raise CheckpointError(f"{path}: {name}.state_file must be a file beside it, got {state_file!r}")
    return Step(str(path), name, config, state_file, tuple(pair for pairs in renamed for pair in pairs))


def read_bounds(folder: Path, step: Step, key: str) -> Bounds:
    """Return the range of one vector out of a step's statistics.

    Raises:
        CheckpointError: there are none, or they cannot be normalized by.
    """
    if step.state_file is None:
        raise CheckpointError(
            f"{step.file}: {step.name} names no state_file: the policy was saved without statistics of its "
            "data, and would get and give normalized numbers"
        )
    path = folder / step.state_file
    if not is_there(path):
        raise CheckpointError(f"{step.file} names {step.state_file}, which is not in {folder}: copy it there")
    entries = read_stored_tensors(path)
    wanted = [f"{key}.{name}" for name in ("min", "max")]
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise CheckpointError(f"{path} has no {' and no '.join(missing)}, only {', '.join(sorted(entries))}")
    for name in wanted:
        if entries[name].dtype in ("BOOL", "C64"):
            raise CheckpointError(f"{path}: {name}: expected numbers, got dtype {entries[name].dtype}")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        # float32: what lerobot computes in, whatever the file has.
        low, high = (tensors[f"{key}.{name}"].float().flatten().tolist() for name in ("min", "max"))
        if not low:
            raise ValueError("expected numbers, got none")
        return Bounds(tuple(low), tuple(high))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: {key}: {error}") from None


def _renamed(path: Path, step: dict[str, Any]) -> list[tuple[str, str]]:
    config = step.get("config")
    table = config.get("rename_map") if isinstance(config, dict) else None
    if table is None:
        return []
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise CheckpointError(f"{path}: {_RENAME_STEP}.rename_map must be an object of names, got {table!r}")
    return sorted(table.items())
