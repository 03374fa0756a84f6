"""What adapter_config.json says: the rank and the weight of each change, as far as it is plain LoRA.

Variants that compute something else, or that changed the base as they began, are refused by name: merged as
plain LoRA they would serve another model.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr00t.model.checkpoint.folder_kind import ADAPTER_CONFIG
from gr00t.model.checkpoint.json_section import CheckpointError, Section, is_there, read_json

# Settings that say how training went, or which layers it changed, which the file of weights says as well.
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform"),
    *("lora_bias", "lora_dropout", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size"),
    *("revision", "runtime_config", "target_modules", "task_type"),
}
_READ = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
# Settings by which a module may be named and yet not be changed.
_EXCEPTIONS = ("exclude_modules", "layers_to_transform", "layers_pattern")
# Patterns that may take longer than anybody waits: a repeated group, or many repetitions.
_SLOW, _REPEAT, _MOST_REPEATS = re.compile(r"\)[*+{]"), re.compile(r"[*+{]"), 4
# Ways to begin that leave the base as it was; the others take what they begin with out of it.
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class LoraSettings:
    """Rank and alpha, of all changes and of those whose module's name ends in a pattern.

    `targets` are names, or endings of names, of modules that were changed; none where the file does not list
    them one by one.
    """

    file: str
    targets: tuple[str, ...]
    rank: int
    alpha: float
    ranks: dict[str, int]
    alphas: dict[str, float]
    rank_stabilized: bool

    def rank_of(self, module: str) -> int:
        """Rank of the change to one module, by its whole name in the adapter."""
        return self.ranks.get(self._pattern(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """Factor before `B @ A`: alpha / rank, or alpha / sqrt(rank)."""
        rank = self.rank_of(module)
        alpha = self.alphas.get(self._pattern(self.alphas, module), self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilized else alpha / rank

    def _pattern(self, patterns: dict[str, Any], module: str) -> str:
        for pattern in patterns:
            try:
                matches = re.match(rf"(.*\.)?({pattern})$", module)
            except re.error as error:
                raise CheckpointError(f"{self.file}: pattern {pattern!r}: {error}") from None
            if matches:
                return pattern
        return module


def read_settings(folder: Path) -> LoraSettings:
    """Read adapter_config.json.

    Raises:
        CheckpointError: it is missing or damaged, or is not plain LoRA.
    """
    path = folder / ADAPTER_CONFIG
    if not is_there(path):
        raise CheckpointError(f"{folder} has no {ADAPTER_CONFIG}, which says by how much its weights count")
    values = read_json(path)
    section = Section(str(path), values)
    if str(values.get("peft_type", "LORA")).upper() != "LORA":
        raise section.error("peft_type", f"= {values['peft_type']!r}; only LORA can be merged here")
    if values.get("use_dora"):
        raise section.error(
            "use_dora", "= true: DoRA changes lengths of weights, too; merge it with peft (merge_and_unload)"
        )
    begun = values.get("init_lora_weights", True)
    if begun not in _PLAIN_BEGINNINGS:
        raise section.error(
            "init_lora_weights",
            f"= {begun!r} changed the base as it began; merge it with peft (merge_and_unload)",
        )
    unknown = [key for key in values if key not in _WITHOUT_EFFECT | _READ and _is_set(key, values[key])]
    if unknown:
        raise section.error(
            unknown[0], f"= {values[unknown[0]]!r} is not known here; merge it with peft (merge_and_unload)"
        )
    ranks, alphas = _table(section, "rank_pattern"), _table(section, "alpha_pattern")
    for pattern, rank in ranks.items():
        if type(rank) is not int:
            raise section.error(f"rank_pattern.{pattern}", f"must be an integer >= 1, got {rank!r}")
    return LoraSettings(
        file=str(path),
        targets=_targets(section),
        rank=section.integer("r", 8),
        alpha=section.positive("lora_alpha", 8.0),
        ranks={pattern: int(rank) for pattern, rank in ranks.items()},
        alphas=alphas,
        rank_stabilized=section.flag("use_rslora", False),
    )


def _is_set(key: str, value: Any) -> bool:
    # Without the start that would read it, this is a group of defaults.
    return bool(value) and key != "loftq_config"


def _table(section: Section, key: str) -> dict[str, float]:
    values = section.values.get(key) or {}
    if not isinstance(values, dict):
        raise section.error(key, f"must be an object, got {values!r}")
    for pattern, value in values.items():
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            raise section.error(f"{key}.{pattern}", f"must be a positive number, got {value!r:.100}")
        if _SLOW.search(pattern) or len(_REPEAT.findall(pattern)) > _MOST_REPEATS:
            raise section.error(
                f"{key}.{pattern:.100}", "repeats too much to be tried on every name; write the names out"
            )
    return values


def _targets(section: Section) -> tuple[str, ...]:
    if any(section.values.get(key) for key in _EXCEPTIONS):
        return ()
    found: list[str] = []
    for key in ("target_modules", "modules_to_save"):
        names = section.values.get(key) or []
        # A text is a pattern that peft compared with every name.
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found += names
        elif not isinstance(names, str):
            raise section.error(key, f"must be a list of names, got {names!r:.100}")
    return tuple(found)
