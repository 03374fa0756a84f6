"""Calibrate a policy: record, quantize, replay, and read back what was written."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gr00t.cli.calibration.arguments import CalibrateArguments, check_arguments
from gr00t.cli.calibration.requests import record, replay
from gr00t.cli.calibration.sources import progress
from gr00t.cli.serving.policy import load_by_flags
from gr00t.model.quantized_layers import log_scope
from gr00t.quantization.settings.environment import to_environ
from gr00t.serving.observation_file import read_observations, write_observations

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy
    from gr00t.quantization import DuQuantReport

logger = logging.getLogger("gr00t.calibrate")


def calibrate(
    arguments: CalibrateArguments, environ: Mapping[str, str]
) -> tuple[Gr00tPolicy, dict[str, Any]]:
    """Record, quantize, replay, check; return the calibrated policy and the report.

    Raises:
        UsageError, DuQuantConfigError, DuQuantSelectionError: flags or settings that cannot be used.
        ObservationError, ObservationFileError, LiberoError, SimulatorError: from the observations.
        CheckpointError and others: from loading the policy.
    """
    todo = check_arguments(arguments, environ)
    # After the checks: importing torch and transformers takes seconds.
    import torch

    from gr00t.experiment.checkpoint_data_config import served_data_config
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.quantization import plan, quantize_
    from gr00t.quantization.calibration.record import DIGESTS, write_record
    from gr00t.training.resources import used

    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        policy = load_policy(arguments)
        asked = (todo.config.scheme, todo.config.layer_filter)
        aliases = module_aliases(policy.model)
        plans = plan(policy.model, *asked, aliases=aliases)
    layers = {layer.name: layer.linear for layer in plans if layer.spec is not None}
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d", len(layers))
    log_scope({layer.name: layer.spec.bits for layer in plans if layer.spec is not None}, todo.config)
    with timed(seconds, "gather"):
        observations, source = todo.source.gather(policy)
        if arguments.save is not None:
            count = write_observations(arguments.save, itertools.islice(observations, todo.requests))
            logger.info("%d observations saved to %s", count, arguments.save)
            observations = read_observations(arguments.save)
    with timed(seconds, "record"):
        recorded = record(
            policy,
            layers,
            observations,
            requests=todo.requests,
            replays=todo.config.calibration_steps,
            seed=arguments.seed,
        )
    data_config, _ = served_data_config(arguments.data_config, policy)
    facts = {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "requests": todo.requests,
        "requests_left_out": recorded.left_out,
        "input_rows": recorded.rows,
        "observations": source["kind"],
        "source": source,
        DIGESTS: recorded.digests,
        "seed": arguments.seed,
        "checkpoint": arguments.model_path,
        "data_config": data_config,
        "embodiment_tag": policy.embodiment_name,
        "denoising_steps": policy.denoising_steps,
        "dtype": arguments.dtype,
        "prompt_style": arguments.prompt_style,
        "settings": todo.config.to_dict(),
        "layers": len(layers),
    }
    write_record(todo.packdir, facts, complete=False)
    with timed(seconds, "quantize"), progress("quantizing", len(layers), "layer") as bar:
        # Where a server does it, too: on the CPU, before the model moves.
        policy.model.to("cpu")
        policy.quantization = quantize_(
            policy.model,
            *asked,
            statistics=recorded.statistics,
            runtime=dataclasses.replace(todo.config.runtime, kernels=environ),
            aliases=aliases,
            on_layer=bar.update,
        )
        policy.model.to(policy.device)
        policy.quantization.check_backends()
    with timed(seconds, "replay"):
        replay(policy, policy.quantization, recorded.replayed, arguments.seed)
    kinds = check(policy.quantization, todo.packdir)
    write_record(todo.packdir, facts, complete=True)
    total = {key: sum(row[key] for row in kinds.values()) for key in next(iter(kinds.values()))}
    report = {
        **total,
        "kinds": kinds,
        "requests": todo.requests,
        "source": source["kind"],
        "packdir": str(todo.packdir),
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "peak_bytes": used(torch.device("cpu")),
    }
    return policy, report


def check(report: DuQuantReport, packdir: Path) -> dict[str, dict[str, int]]:
    """Read every pack back; return the figures by kind of layer.

    Raises:
        OSError: a pack is missing, or not what the layer is.
    """
    from gr00t.quantization.checkpoint.packs import PackStore
    from gr00t.quantization.settings.options import Rounding

    store = PackStore(packdir)
    kinds: dict[str, dict[str, int]] = collections.defaultdict(
        lambda: {"layers": 0, "informed": 0, "feedback": 0, "static": 0, "pack_bytes": 0}
    )
    for name, layer in report.layers.items():
        if layer.is_calibrating or not layer.spec.informed or not store.holds(name, layer):
            raise OSError(f"the pack of {name} in {packdir} is not what was calibrated; is the disk full?")
        row = kinds[name.rpartition(".")[2]]
        row["layers"] += 1
        row["informed"] += layer.spec.informed
        row["feedback"] += layer.spec.rounding is Rounding.FEEDBACK
        row["static"] += layer.spec.static
        row["pack_bytes"] += store.bytes_on_disk(name)
    return dict(kinds)


def load_policy(arguments: CalibrateArguments) -> Gr00tPolicy:
    """Return the policy, unquantized, on its device."""
    return load_by_flags(arguments, arguments.model_path, to_environ({"ENABLE": "0"}))


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note in `seconds` how long the context took."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
