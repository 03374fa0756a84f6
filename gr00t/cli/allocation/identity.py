"""Everything that a measured error depends on, so that none is taken for another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gr00t.cli.allocation.arguments import AllocationTask
from gr00t.quantization.checkpoint.manifest import exported_settings
from gr00t.quantization.checkpoint.tensor_file import hash_all, hash_tensor
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.environment import settings_in
from gr00t.serving.wires import n1_5 as wire

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy

# Bits are what is looked for.
_NOT_THERE = ("WBITS_DEFAULT", "WBITS")


def identity(
    task: AllocationTask,
    policy: Gr00tPolicy,
    observations: Sequence[Mapping[str, Any]],
    statistics: Mapping[str, InputStatistics],
    grippers: Sequence[str],
) -> dict[str, Any]:
    """Return what errors are of, as plain data; hashes stand for what is large."""
    arguments = task.arguments
    settings = settings_in(exported_settings(task.config))
    return {
        "checkpoint": hash_all(policy.model.state_dict()),
        "observations": _hash(hashlib.sha256(wire.pack(dict(seen))).hexdigest() for seen in observations),
        "statistics": _hash(
            [name, hash_tensor("", seen.rows()), seen.inputs and seen.inputs.sha256]
            for name, seen in sorted(statistics.items())
        ),
        "settings": {name: text for name, text in settings.items() if name not in _NOT_THERE},
        "denoising_steps": policy.denoising_steps,
        "data_config": arguments.data_config,
        "embodiment": policy.embodiment_name,
        "prompt_style": arguments.prompt_style,
        "dtype": arguments.dtype,
        "device": policy.device.type,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "executed": arguments.executed,
        "grippers": list(grippers),
    }


def _hash(parts: Any) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
