"""From a command line to a trained checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import TrainArguments
from gr00t.cli.training.data import TrainingData, check_data, data_settings, load_data
from gr00t.cli.training.output_folder import alone_in, check_output, made
from gr00t.cli.training.plans import check_tracker, plan_of, remarks
from gr00t.cli.training.processes import is_one_of_several, processes_of, start
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.experiment.data_config import load_data_config
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import resolve_checkpoint
from gr00t.model.checkpoint.source import read_config, served_config
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.meta_model import find_config
from gr00t.model.preprocessing.fitting import set_horizon_, with_horizon
from gr00t.model.preprocessing.tokenizer import PromptTokenizer, resolve_tokenizer
from gr00t.model.preprocessing.transform_setup import bind_to_model
from gr00t.quantization.checkpoint.manifest import read_manifest
from gr00t.training.checkpoint_writer import CheckpointWriter, go_on
from gr00t.training.distributed import SINGLE_PROCESS, ProcessGroup, joined_process_group
from gr00t.training.identity import data_identity
from gr00t.training.loop import Intervals, learn
from gr00t.training.losses import Loss
from gr00t.training.memory_estimate import MemoryEstimate, estimate_memory
from gr00t.training.plan import TrainingPlan
from gr00t.training.resources import LESS_MEMORY, compare, describe, gib, is_shortage, shortages, used
from gr00t.training.run_checkpoints import remove_remains
from gr00t.training.trackers import open_tracker
from gr00t.training.trainer import FLOW_MATCHING, Trainer

logger = logging.getLogger("gr00t.train")

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclasses.dataclass(frozen=True)
class RequiredArguments:
    """What must be named."""

    data: tuple[Path, ...]
    checkpoint: str
    output: Path


def required(arguments: TrainArguments) -> RequiredArguments:
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
    return RequiredArguments(arguments.data, arguments.checkpoint, arguments.output)


@dataclasses.dataclass(frozen=True)
class CheckedTraining:
    """What can be known, and checked, before data are decoded and weights read.

    `begun` is the folder of the checkpoint that the run starts from.
    """

    output: Path
    plan: TrainingPlan
    tag: EmbodimentTag
    data_config: Any
    transform: ComposedModalityTransform
    begun: Path
    config: Gr00tConfig
    tokenizer: PromptTokenizer


@dataclasses.dataclass(frozen=True)
class LoadedTraining:
    """What losses can be made of. The transform is bound to the model and to the statistics of the data."""

    samples: TrainingData
    model: GR00T_N1_5
    transform: ComposedModalityTransform
    tokenizer: PromptTokenizer
    group: ProcessGroup


class OutOfMemoryError(Exception):
    """The machine has too little memory for what was asked; the text says what needs less."""


# The losses that a program trains with, by its flags.
LossesOf = Callable[[Any, LoadedTraining], Sequence[Loss]]


def flow_matching_alone(arguments: TrainArguments, loaded: LoadedTraining) -> Sequence[Loss]:
    """The loss that GR00T N1.5 is fine-tuned with."""
    return (FLOW_MATCHING,)


def check_training(arguments: TrainArguments, processes: int) -> CheckedTraining:
    """Check everything that takes no time.

    Raises:
        ValueError: data, checkpoint and configuration that do not fit together, or flags that make no sense.
    """
    given = required(arguments)
    plan = plan_of(arguments, processes)
    ProcessGroup(0, processes).share_of("--batch-size", plan.batch_size)
    check_tracker(arguments.report_to)
    check_output(given.output, arguments.resume)
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
    config = served_config(read_config(begun), begun)
    check_data(arguments, data_config, transform, config)
    tokenizer = resolve_tokenizer(begun, arguments.tokenizer)
    return CheckedTraining(given.output, plan, tag, data_config, transform, begun, config, tokenizer)


def train(
    arguments: TrainArguments,
    group: ProcessGroup = SINGLE_PROCESS,
    losses_of: LossesOf = flow_matching_alone,
) -> dict[str, Any]:
    """Train and, in the first process of a group, write checkpoints; return what happened.

    Raises:
        ValueError: data, checkpoint and configuration that do not fit together, or a run that cannot go on.
    """
    device = group.device(arguments.device)
    with contextlib.nullcontext() if group.rank else alone_in(required(arguments).output):
        return _train(arguments, group, device, losses_of)


def _train(
    arguments: TrainArguments, group: ProcessGroup, device: torch.device, losses_of: LossesOf
) -> dict[str, Any]:
    checked = check_training(arguments, group.size)
    plan, output, data_config = checked.plan, checked.output, checked.data_config
    before = used(device)
    if not group.rank:
        estimate = estimated(arguments, plan, checked.config, data_config, group.size)
        say(estimate, arguments, plan, device, group.size)
        remove_remains(output)
    if group.rank:
        group.wait()  # for the frames
    samples = load_data(arguments, data_config, arguments.cache or output / "frames")
    if not group.rank:
        group.wait()
    metadata = samples.metadata(checked.tag)
    model = GR00T_N1_5.from_pretrained(checked.begun)
    set_horizon_(model, len(data_config.modality_config()["action"].delta_indices))
    transform = checked.transform
    transform.set_metadata(metadata)
    bind_to_model(transform, model.config, checked.tokenizer, checked.tag, arguments.prompt_style)
    losses = losses_of(arguments, LoadedTraining(samples, model, transform, checked.tokenizer, group))
    identity = data_identity(data_settings(arguments), samples, metadata, data_config, model)
    trainer = Trainer(model, samples, transform, plan, device, losses, group, identity)
    go_on(trainer, output)
    if trainer.step:
        logger.info("going on from step %d of %d", trainer.step, plan.steps)
    logger.info("%d time steps, %d episodes", len(samples), len(samples.lengths))
    checkpoints = CheckpointWriter(
        *(output, checked.begun, metadata, _DTYPES[arguments.save_precision], arguments.save_total_limit),
        with_adapter=bool(arguments.save_adapter),
        published=arguments.published,
    )
    intervals = Intervals(arguments.log_every, arguments.save_every, arguments.stop_after)
    started = time.perf_counter()
    with open_tracker(None if group.rank else arguments.report_to, output, trainer.step + 1) as tracker:
        means = learn(trainer, intervals, checkpoints, group, device, tracker)
    result = {
        "checkpoint": str(output / arguments.published),
        "steps": trainer.step,
        "time_steps": len(samples),
        "loss": round(means[-1], 5) if means else None,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if not group.rank:
        checkpoints.publish()
        logger.info("%s", compare(estimate, device, before))
    return result


def estimated(
    arguments: TrainArguments, plan: TrainingPlan, config: Gr00tConfig, data_config: Any, processes: int
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
    estimate: MemoryEstimate,
    arguments: TrainArguments,
    plan: TrainingPlan,
    device: torch.device,
    processes: int,
) -> None:
    """Say what the run needs, and warn of what the machine has less of."""
    logger.info("%s", describe(estimate, device, plan.batch_size // processes))
    assert arguments.output is not None
    for line in shortages(estimate, device, processes, arguments.output, arguments.save_total_limit):
        logger.warning("warning: %s", line)


def dry_run(arguments: TrainArguments, processes: int) -> dict[str, Any]:
    """Say what a run would need; neither weights nor data are read, and nothing is written."""
    plan = plan_of(arguments, processes)
    found, source = find_config(arguments.checkpoint)
    config = served_config(found, arguments.checkpoint or source)
    logger.info("architecture: %s", source)
    estimate = estimated(arguments, plan, config, load_data_config(arguments.data_config), processes)
    device = SINGLE_PROCESS.device(arguments.device)
    say(estimate, dataclasses.replace(arguments, output=arguments.output or Path()), plan, device, processes)
    logger.info("disk: %s for each checkpoint", gib(estimate.checkpoint))
    return {"dry_run": True, **dataclasses.asdict(estimate)}


def run(arguments: TrainArguments, words: Sequence[str], losses_of: LossesOf = flow_matching_alone) -> int:
    """Train, or say what a training needs; return the exit status.

    Args:
        arguments: what the command line says.
        words: the command line, for the processes that this one starts.
        losses_of: returns what is learned by.

    Raises:
        ValueError, OSError: with a message for people.
    """
    processes = processes_of(arguments)
    if arguments.dry_run:
        print(json.dumps(dry_run(arguments, processes)))
        return 0
    with made(required(arguments).output):
        if processes > 1 and not is_one_of_several():
            check_training(arguments, processes)  # what is wrong is said once, not by each
            return start(processes, words)
        with joined_process_group() as group:
            if not group.rank:
                for remark in remarks(arguments, group.size):
                    logger.info("%s", remark)
            try:
                result = train(arguments, group, losses_of)
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                raise OutOfMemoryError(
                    f"out of memory: {str(error).splitlines()[0]}\n{LESS_MEMORY}"
                ) from error
            if not group.rank:
                print(json.dumps(result))
    return 0
