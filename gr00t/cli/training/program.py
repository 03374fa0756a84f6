"""From a command line to a trained checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gr00t.cli.training.arguments import Arguments
from gr00t.cli.training.command_line import UsageError, parse
from gr00t.cli.training.data import check_data, load_data
from gr00t.cli.training.plans import plan_of, remarks
from gr00t.cli.training.processes import is_one_of_several, processes_of, start
from gr00t.cli.training.scenes import ask
from gr00t.console import log_to_stderr
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.experiment.data_config import load_data_config
from gr00t.files.output_folder import writing
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import resolve_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.binding import bind_to_model
from gr00t.model.preprocessing.fitting import set_horizon_, with_horizon
from gr00t.model.preprocessing.tokenizer import PromptTokenizer, resolve_tokenizer
from gr00t.model.structure import find_config
from gr00t.quantization.checkpoint.manifest import read_manifest
from gr00t.training.demo.waypoints import normalized_waypoints
from gr00t.training.distributed import ALONE, Team, joined_team
from gr00t.training.identity import data_identity, pipeline_identity
from gr00t.training.memory_estimate import MemoryEstimate, estimate_memory
from gr00t.training.plan import TrainingPlan
from gr00t.training.resources import LESS_MEMORY, compare, describe, gib, is_shortage, shortages, used
from gr00t.training.run_checkpoints import remove_remains
from gr00t.training.running import learn
from gr00t.training.saving import Checkpoints, alone_in, check_output, go_on, remove_if_unused
from gr00t.training.trackers import check_report, open_tracker
from gr00t.training.trainer import Trainer

logger = logging.getLogger("gr00t.train")

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclasses.dataclass(frozen=True)
class Named:
    """What must be named."""

    data: tuple[Path, ...]
    checkpoint: str
    output: Path


def named(arguments: Arguments) -> Named:
    """Find what must be named.

    Raises:
        UsageError: something is not; all of it at once.
    """
    missing = [
        text
        for value, text in (
            (arguments.data, "--data (or --dataset-path): folders of demonstrations"),
            (arguments.checkpoint, "--checkpoint (or --base-model-path): what to start from"),
            (arguments.output, "--output (or --output-dir): a folder for the results"),
        )
        if not value
    ]
    if missing:
        raise UsageError("expected " + "; ".join(missing))
    assert arguments.checkpoint is not None
    assert arguments.output is not None
    return Named(arguments.data, arguments.checkpoint, arguments.output)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What can be known, and checked, before data are decoded and weights read.

    `begun` is the folder of the checkpoint that the run starts from.
    """

    named: Named
    plan: TrainingPlan
    tag: EmbodimentTag
    data_config: Any
    transform: ComposedModalityTransform
    begun: Path
    config: Gr00tConfig
    tokenizer: PromptTokenizer


def prepare(arguments: Arguments, processes: int) -> Prepared:
    """Check everything that takes no time.

    Raises:
        ValueError: data, checkpoint and configuration that do not fit together, or flags that make no sense.
    """
    given = named(arguments)
    plan = plan_of(arguments, processes)
    Team(0, processes).share_of("--batch-size", plan.batch_size)
    check_report(arguments.report_to)
    check_output(arguments, given.output)
    tag = EmbodimentTag(arguments.embodiment_tag)
    data_config = load_data_config(arguments.data_config)
    transform: ComposedModalityTransform = data_config.transform()
    begun = resolve_checkpoint(given.checkpoint)
    artefact = read_manifest(begun)
    if artefact is not None:
        raise ValueError(
            f"{begun} is quantized and cannot be trained; start from the checkpoint that it was exported "
            f"from: {artefact.checkpoint}"
        )
    config = Gr00tConfig.from_folder(begun)
    check_data(arguments, data_config, transform, config)
    tokenizer = resolve_tokenizer(begun, arguments.tokenizer)
    return Prepared(given, plan, tag, data_config, transform, begun, config, tokenizer)


def train(arguments: Arguments, team: Team = ALONE) -> dict[str, Any]:
    """Train and, in the first process of a team, write checkpoints; return what happened.

    Raises:
        ValueError: data, checkpoint and configuration that do not fit together, or a run that cannot go on.
    """
    device = team.device(arguments.device)
    with contextlib.nullcontext() if team.rank else alone_in(named(arguments).output):
        return _train(arguments, team, device)


def _train(arguments: Arguments, team: Team, device: torch.device) -> dict[str, Any]:
    prepared = prepare(arguments, team.size)
    plan, data_config, transform = prepared.plan, prepared.data_config, prepared.transform
    output, begun, tokenizer = prepared.named.output, prepared.begun, prepared.tokenizer
    before = used(device)
    if not team.rank:
        estimate = estimated(arguments, plan, prepared.config, data_config, team.size)
        say(estimate, arguments, plan, device, team.size)
        remove_remains(output)
    if team.rank:
        team.wait()  # for the frames
    samples = load_data(arguments, data_config, arguments.cache or output / "frames")
    if not team.rank:
        team.wait()
    metadata = samples.metadata(prepared.tag)
    model = GR00T_N1_5.from_pretrained(begun)
    set_horizon_(model, len(data_config.modality_config()["action"].delta_indices))
    transform.set_metadata(metadata)
    bind_to_model(transform, model.config, tokenizer, prepared.tag, arguments.prompt_style)
    waypoints = normalized_waypoints(samples) if plan.waypoint_weight else None
    questions = ask(arguments, model, transform, tokenizer, team) if plan.grounding_weight else None
    identity = data_identity(arguments, metadata, model)
    identity |= pipeline_identity(arguments, samples, data_config)
    trainer = Trainer(model, samples, transform, plan, device, waypoints, questions, team, identity)
    go_on(trainer, output)
    if trainer.step:
        logger.info("going on from step %d of %d", trainer.step, plan.steps)
    logger.info("%d time steps, %d episodes", len(samples), len(samples.lengths))
    checkpoints = Checkpoints(
        *(output, begun, metadata, _DTYPES[arguments.save_precision], arguments.save_total_limit),
        with_adapter=bool(arguments.save_adapter),
        published=arguments.published,
    )
    started = time.perf_counter()
    with open_tracker(None if team.rank else arguments.report_to, output, trainer.step + 1) as tracker:
        losses = learn(trainer, arguments, checkpoints, team, device, tracker)
    result = {
        "checkpoint": str(output / arguments.published),
        "steps": trainer.step,
        "time_steps": len(samples),
        "loss": round(losses[-1], 5) if losses else None,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if not team.rank:
        checkpoints.publish()
        logger.info("%s", compare(estimate, device, before))
    return result


def estimated(
    arguments: Arguments, plan: TrainingPlan, config: Gr00tConfig, data_config: Any, processes: int
) -> MemoryEstimate:
    """What the run will need."""
    modalities = data_config.modality_config()
    video = modalities["video"]
    return estimate_memory(
        with_horizon(config, len(modalities["action"].delta_indices)),
        plan,
        len(video.modality_keys) * len(video.delta_indices),
        processes=processes,
        weight_bytes=_DTYPES[arguments.save_precision].itemsize,
    )


def say(
    estimate: MemoryEstimate, arguments: Arguments, plan: TrainingPlan, device: torch.device, processes: int
) -> None:
    """Say what the run needs, and warn of what the machine has less of."""
    logger.info("%s", describe(estimate, device, plan.batch_size // processes))
    assert arguments.output is not None
    for line in shortages(estimate, device, processes, arguments.output, arguments.save_total_limit):
        logger.warning("warning: %s", line)


def dry_run(arguments: Arguments, processes: int) -> dict[str, Any]:
    """Say what a run would need; neither weights nor data are read, and nothing is written."""
    plan = plan_of(arguments, processes)
    config, source = find_config(arguments.checkpoint)
    logger.info("architecture: %s", source)
    estimate = estimated(arguments, plan, config, load_data_config(arguments.data_config), processes)
    device = Team().device(arguments.device)
    say(estimate, dataclasses.replace(arguments, output=arguments.output or Path()), plan, device, processes)
    logger.info("disk: %s for each checkpoint", gib(estimate.checkpoint))
    return {"dry_run": True, **dataclasses.asdict(estimate)}


def train_as_asked(kind: type[Arguments], description: str | None) -> int:
    """Run as a program: status 0 when the checkpoint is there."""
    log_to_stderr()
    try:
        arguments = parse(kind, description, sys.argv[1:])
        processes = processes_of(arguments)
        if arguments.dry_run:
            print(json.dumps(dry_run(arguments, processes)))
            return 0
        with made(named(arguments).output):
            if processes > 1 and not is_one_of_several():
                prepare(arguments, processes)  # what is wrong is said once, not by each
                return start(processes, sys.argv[1:])
            with joined_team() as team:
                if not team.rank:
                    for remark in remarks(arguments, team.size):
                        logger.info("%s", remark)
                result = train(arguments, team)
                if not team.rank:
                    print(json.dumps(result))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        print(f"error: out of memory: {str(error).splitlines()[0]}\n{LESS_MEMORY}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        more = ", with --resume," if kind().resume is False else ""
        print(f"interrupted; the same command{more} goes on from the last save", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def made(output: Path) -> Iterator[None]:
    """Make the folder of a run; it is removed again if nothing was put into it."""
    with writing(output, "--output"):
        output.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        remove_if_unused(output)
