"""What errors are measured by: observations, and statistics of layers' inputs out of the packs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gr00t.cli.allocation.arguments import AllocateArguments
from gr00t.cli.calibration.requests import spread
from gr00t.cli.calibration.sources import FileSource, LiberoSource, SyntheticSource
from gr00t.cli.errors import UsageError
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.serving.observation_file import read_observations, write_observations

if TYPE_CHECKING:
    import torch
    from torch import nn

    from gr00t.model.policy import Gr00tPolicy

logger = logging.getLogger("gr00t.allocate")


def find_observations(
    arguments: AllocateArguments, policy: Gr00tPolicy, environ: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """Return the observations to measure by, and where they are from, for people.

    Raises:
        UsageError, ObservationFileError, LiberoError, SimulatorError: there are none.
    """
    if arguments.synthetic is not None:
        drawn = SyntheticSource(arguments.synthetic, arguments.prompts, arguments.seed)
        return list(drawn.gather(policy)[0]), f"{arguments.synthetic} random observations"
    if arguments.libero is not None:
        path = _played(arguments, policy, environ)
        where = f"rollouts in {arguments.libero}"
    else:
        assert arguments.observations is not None
        path = FileSource(arguments.observations).path
        where = path.name
    found = list(read_observations(path))
    if not found:
        raise UsageError(f"{path}: no observation in this file")
    if len(found) < arguments.requests:
        logger.warning("%s: %d observations, %d are wanted", path, len(found), arguments.requests)
    chosen = spread(found, arguments.requests)
    return chosen, f"{len(chosen)} observations of {where}"


def _played(arguments: AllocateArguments, policy: Gr00tPolicy, environ: Mapping[str, str]) -> Path:
    """The file of what the policy meets in rollouts: those that an earlier run with these flags has kept."""
    assert arguments.libero is not None
    flags = ("checkpoint", "libero", "requests", "seed", "tasks", "max_steps", "executed", "assets")
    of = json.dumps([getattr(arguments, flag) for flag in (*flags, "denoising_steps", "data_config")])
    key = hashlib.sha256(of.encode()).hexdigest()
    path = arguments.output / f"observations-{key[:12]}"
    if not path.is_file():
        source = LiberoSource(
            arguments.libero,
            arguments.requests,
            environ,
            tasks=arguments.tasks,
            seed=arguments.seed,
            max_steps=arguments.max_steps,
            replan_steps=arguments.executed,
            assets=arguments.assets,
            gl=arguments.gl,
        )
        write_observations(path, source.gather(policy)[0])
    return path


def recorded_statistics(
    packdir: Path, layers: Mapping[str, nn.Linear], dtype: torch.dtype
) -> dict[str, InputStatistics]:
    """Return what the packs say of the layers' inputs.

    Args:
        packdir: where the packs are; it is only read.
        layers: by name.
        dtype: that the weights had when they were calibrated.

    Raises:
        UsageError: of a layer nothing was recorded, or no rows to round by.
    """
    store = PackStore(packdir)
    found = {
        name: store.recorded(name, layer.weight.detach().to("cpu", dtype)) for name, layer in layers.items()
    }
    known = {name: seen for name, seen in found.items() if seen is not None and seen.inputs is not None}
    missing = [name for name in layers if name not in known]
    if missing:
        raise UsageError(
            f"--packdir {packdir}: of {len(missing)} of {len(layers)} layers no inputs were recorded with "
            f"these weights, as of {', '.join(missing[:3])}: run gr00t-calibrate for this checkpoint and "
            "these layers"
        )
    return known
