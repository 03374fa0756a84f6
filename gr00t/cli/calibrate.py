"""Calibrate DuQuant: record what the layers of the unquantized policy are called with, and write packs by it.

A server started with the same GR00T_DUQUANT_* settings, checkpoint, --dtype and PACKDIR then restores the
transforms, the codes and the static activation scales, and calibrates nothing on the requests that it serves.
The observations come from one of:

--libero SUITE       rollouts of the policy itself, on initial states that evaluations do not use
--observations FILE  a file that --save wrote, or that a client recorded (gr00t/serving/observation_file.py)
--synthetic N        N random observations: a smoke test, not a calibration worth evaluating

The last line of the output is a report as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gr00t.cli.calibration.sources import (
    FileSource,
    LiberoSource,
    ObservationSource,
    SyntheticSource,
    progress,
    request_seed,
)
from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.files.output_folder import writing
from gr00t.model.checkpoints import find_manifest
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ, why_not_enabled
from gr00t.serving.observation_file import read_observations, write_observations

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy
    from gr00t.quantization import DuQuantReport

logger = logging.getLogger("gr00t.calibrate")

PROMPTS = (
    "pick up the alphabet soup and place it in the basket",
    "put the bowl on the plate",
    "open the top drawer and put the bowl inside",
    "turn on the stove and put the moka pot on it",
)
# Enough rows for the peaks of channels even where no static scales are pooled.
FEWEST_REQUESTS = 32


@dataclasses.dataclass(frozen=True)
class CalibrateArguments:
    """What to calibrate, by which observations."""

    model_path: str
    """Checkpoint folder or model hub id."""
    observations: Path | None = None
    """File of observations: concatenated msgpack messages, as --save writes them."""
    libero: str | None = None
    """Suite to collect observations in by rollouts: libero_spatial, _object, _goal, _10 or _90."""
    synthetic: int | None = None
    """Number of random observations. For smoke tests: do not evaluate what it calibrates."""
    requests: int | None = None
    """Observations to use (default: CALIB_STEPS, at least 32; with --synthetic its number)."""
    save: Path | None = None
    """Write the observations that are used to this file, for --observations."""
    packdir: Path | None = None
    """Folder of the packs, instead of GR00T_DUQUANT_PACKDIR."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's; a policy of
    lerobot has its own)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment, or a policy of lerobot's own)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    denoising_steps: int | None = None
    """Euler steps per action chunk, as the server will take; the checkpoint's own number if not given."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the weights, as in the server: packs are for the weights in this precision."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""
    seed: int = 0
    """Seeds the flow noise of every request, the rollouts and the random observations."""
    prompts: tuple[str, ...] = PROMPTS
    """With --synthetic: instructions, taken in turn."""
    tasks: str = "all"
    """With --libero: tasks of the suite, as all, 3, 0,3 or 0-4."""
    replan_steps: int = 8
    """With --libero: actions executed of each chunk before the policy is asked again."""
    max_steps: int | None = None
    """With --libero: steps after which an episode ends (default: the suite's published limit)."""
    assets: str = "auto"
    """With --libero: auto (LIBERO_ASSETS, else the hub, else the stand-ins), stand-ins, hub or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """With --libero: library to draw with (default: MUJOCO_GL, else osmesa)."""


class Calibration(NamedTuple):
    """What is to be done, all checks passed that need no weights."""

    config: DuQuantConfig
    packdir: Path
    requests: int
    source: ObservationSource


def check_arguments(arguments: CalibrateArguments, environ: Mapping[str, str]) -> Calibration:
    """Check flags and settings, before anything large is read.

    Raises:
        UsageError, DuQuantConfigError, LiberoError: they cannot be used.
        OSError: PACKDIR cannot be written.
    """
    manifest = find_manifest(arguments.model_path)
    if manifest is not None:
        raise UsageError(
            f"{arguments.model_path} is quantized already; calibrate what it was exported from: "
            f"{manifest.checkpoint}"
        )
    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    if config is None:
        raise UsageError(f"nothing to calibrate, DuQuant is not enabled: {why_not_enabled(environ)}")
    if config.dry_run:
        raise UsageError("GR00T_DUQUANT_DRYRUN=1 asks for a list of layers; unset it to calibrate")
    packdir = arguments.packdir or config.pack_dir
    if packdir is None:
        raise UsageError("nowhere to write: set GR00T_DUQUANT_PACKDIR or give --packdir")
    given = [arguments.observations, arguments.libero, arguments.synthetic]
    if sum(source is not None for source in given) != 1:
        raise UsageError("give one of --libero SUITE, --observations FILE and --synthetic N")
    counts = [count for count in (arguments.requests, arguments.synthetic) if count is not None]
    if min(counts, default=1) < 1:
        raise UsageError("--requests and --synthetic: expected at least 1")
    if len(set(counts)) > 1:
        raise UsageError("--synthetic N uses all N observations; --requests says another number")
    requests = counts[0] if counts else max(config.calibration_steps, FEWEST_REQUESTS)
    if requests < config.calibration_steps:
        raise UsageError(
            f"{requests} requests do not fix static scales: GR00T_DUQUANT_CALIB_STEPS="
            f"{config.calibration_steps} asks for at least {config.calibration_steps}"
        )
    if not arguments.prompts:
        raise UsageError("--prompts: give at least one instruction")
    source: ObservationSource
    if arguments.observations is not None:
        source = FileSource(arguments.observations)
    elif arguments.libero is not None:
        source = LiberoSource(
            arguments.libero,
            requests,
            environ,
            tasks=arguments.tasks,
            seed=arguments.seed,
            max_steps=arguments.max_steps,
            replan_steps=arguments.replan_steps,
            assets=arguments.assets,
            gl=arguments.gl,
        )
    else:
        source = SyntheticSource(requests, arguments.prompts, arguments.seed)
    with writing(packdir, "--packdir"):
        packdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=packdir).close()  # a folder that cannot be written is said now
    if arguments.save is not None:
        arguments.save.parent.mkdir(parents=True, exist_ok=True)
    return Calibration(dataclasses.replace(config, pack_dir=packdir), packdir, requests, source)


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
    from gr00t.experiment.checkpoint_data_config import served_data_config
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.quantization import plan, quantize_
    from gr00t.quantization.calibration.record import write_record
    from gr00t.quantization.calibration.recording import record_inputs

    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        policy = load_policy(arguments)
        asked = (todo.config.scheme, todo.config.layer_filter)
        aliases = module_aliases(policy.model)
        plans = plan(policy.model, *asked, aliases=aliases)
    layers = {layer.name: layer.linear for layer in plans if layer.spec is not None}
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d", len(layers))
    with timed(seconds, "gather"):
        observations, source = todo.source.gather(policy)
        if arguments.save is not None:
            count = write_observations(arguments.save, itertools.islice(observations, todo.requests))
            logger.info("%d observations saved to %s", count, arguments.save)
            observations = read_observations(arguments.save)

    with timed(seconds, "record"):
        candidates = []
        with (
            record_inputs(policy.model, layers) as recording,
            progress("recording", todo.requests) as bar,
        ):
            for index, observation in enumerate(observations):
                answer(policy, observation, index, arguments.seed)
                group = recording.latest
                if group is not None and group.members <= todo.config.calibration_steps:
                    candidates.append((group, index, observation))
                bar.update(recording.requests - bar.n)
                if recording.requests == todo.requests:
                    break
        found, odd = recording.requests, recording.left_out
        statistics = recording.statistics() if found or odd else {}
        if found < todo.requests:
            left_out = f" and {odd} more are left out (see above)" if odd else ""
            raise UsageError(
                f"{found} observations are there{left_out}, {todo.requests} are to be used; give "
                f"--requests {found}, or more observations"
            )
        replayed = [(index, seen) for group, index, seen in candidates if recording.decides(group)]

    data_config, _ = served_data_config(arguments.data_config, policy)
    facts = {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "requests": todo.requests,
        "requests_left_out": recording.left_out,
        "observations": source["kind"],
        "source": source,
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
    with timed(seconds, "quantize"):
        # Where a server does it, too: on the CPU, before the model moves.
        policy.model.to("cpu")
        policy.quantization = quantize_(
            policy.model, *asked, statistics=statistics, runtime=todo.config.runtime, aliases=aliases
        )
        policy.model.to(policy.device)
    with timed(seconds, "replay"):
        replay(policy, policy.quantization, replayed, arguments.seed)
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
    }
    return policy, report


def replay(
    policy: Gr00tPolicy, report: DuQuantReport, observations: list[tuple[int, dict[str, Any]]], seed: int
) -> None:
    """Let the quantized policy answer requests, by their numbers, until its static scales are fixed.

    Raises:
        UsageError: they were not, since the quantized layers disagree about the requests.
    """
    with progress("static scales", len(observations)) as bar:
        for index, observation in observations:
            if not report.pools_requests:
                break  # all of them were restored
            answer(policy, observation, index, seed)
            bar.update()
    if report.pools_requests:
        raise UsageError(
            f"the static scales are not fixed: of {len(observations)} requests too many are left out, see "
            f"above; calibrate by other observations, or with GR00T_DUQUANT_CALIB_STEPS=0"
        )


def check(report: DuQuantReport, packdir: Path) -> dict[str, dict[str, int]]:
    """Read every pack back; return the figures by kind of layer.

    Raises:
        OSError: a pack is missing, or not what the layer is.
    """
    from gr00t.quantization.checkpoint.packs import PackStore

    store = PackStore(packdir)
    kinds: dict[str, dict[str, int]] = collections.defaultdict(
        lambda: {"layers": 0, "informed": 0, "static": 0, "pack_bytes": 0}
    )
    for name, layer in report.layers.items():
        if layer.is_calibrating or not layer.spec.informed or not store.holds(name, layer):
            raise OSError(f"the pack of {name} in {packdir} is not what was calibrated; is the disk full?")
        row = kinds[name.rpartition(".")[2]]
        row["layers"] += 1
        row["informed"] += layer.spec.informed
        row["static"] += layer.spec.static
        row["pack_bytes"] += store.bytes_on_disk(name)
    return dict(kinds)


def answer(policy: Gr00tPolicy, observation: dict[str, Any], index: int, seed: int) -> dict[str, Any]:
    """Answer request number `index`; its noise depends on nothing else and the seed."""
    from gr00t.data.errors import ObservationError

    try:
        return policy.get_action(observation, seeds=request_seed(seed, index))
    except ObservationError as error:
        raise ObservationError(f"observation {index}: {error}") from error


def load_policy(arguments: CalibrateArguments) -> Gr00tPolicy:
    """Return the policy, unquantized, on its device."""
    from gr00t.experiment import checkpoint_data_config

    return checkpoint_data_config.load_policy(
        arguments.model_path,
        arguments.data_config,
        base=arguments.base,
        dtype=arguments.dtype,
        embodiment_tag=arguments.embodiment_tag,
        denoising_steps=arguments.denoising_steps,
        device=arguments.device,
        tokenizer=arguments.tokenizer,
        prompt_style=arguments.prompt_style,
        environ=to_environ({"ENABLE": "0"}),
    )


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note in `seconds` how long the context took."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def table(report: Mapping[str, Any]) -> str:
    """Return the report for people: a row per kind of layer, and the sum."""
    lines = [f"{'kind':<12}{'layers':>8}{'informed':>10}{'static':>8}{'pack bytes':>16}"]
    for kind, row in [*report["kinds"].items(), ("all", report)]:
        counts = f"{row['layers']:>8}{row['informed']:>10}{row['static']:>8}{row['pack_bytes']:>16,}"
        lines.append(f"{kind:<12}{counts}")
    lines.append(", ".join(f"{stage} {value:g} s" for stage, value in report["seconds"].items()))
    return "\n".join(lines)


def run(arguments: CalibrateArguments) -> None:
    """Calibrate, and say what there is."""
    report = calibrate(arguments, os.environ)[1]
    print(table(report))
    print(json.dumps(report))


def main() -> int:
    """Run as a program: status 0 when the packs are there, 2 for wrong flags, 1 for everything else."""
    return run_command(CalibrateArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
