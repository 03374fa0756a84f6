"""From flags to a plan; what of them has no effect here is said in one line each, never silently."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator

from gr00t.cli.checks.needed import how_to_install
from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import FinetuneArguments, Reports, TrainArguments
from gr00t.training.lora import LoraPlan
from gr00t.training.plan import TrainingPlan
from gr00t.training.trackers import WRITER_PACKAGE

_DEFAULT_PARTS = ("projector", "diffusion")
# By the part that each switches.
_SWITCHES = {
    "vision": "tune_visual",
    "language": "tune_llm",
    "projector": "tune_projector",
    "diffusion": "tune_diffusion_model",
}


def plan_of(arguments: TrainArguments, processes: int) -> TrainingPlan:
    """The run, apart from its data.

    Raises:
        ValueError: flags that are missing, contradict each other, or make no sense.
    """
    if arguments.steps is None:
        raise UsageError("--steps (or --max-steps): expected the number of optimizer steps")
    if arguments.stop_after is not None and arguments.stop_after > arguments.steps:
        raise UsageError(f"--stop-after {arguments.stop_after}: expected at most --steps {arguments.steps}")
    try:
        return _plan_of(arguments, processes)
    except UsageError:
        raise
    except ValueError as error:
        # The plan names its fields, people know flags.
        field, _, rest = str(error).partition(":")
        raise UsageError(f"{_flag(field)}:{rest}") from error


def _plan_of(arguments: TrainArguments, processes: int) -> TrainingPlan:
    lora = _lora_of(arguments)
    own = {"parts", "batch_size", "accumulation", "lora"}
    names = {field.name for field in dataclasses.fields(TrainingPlan)} - own
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return TrainingPlan(
        **given,
        parts=_parts_of(arguments, lora),
        batch_size=arguments.batch_size * (processes if arguments.batch_per_process else 1),
        accumulation=arguments.gradient_accumulation_steps,
        lora=lora,
    )


def _lora_of(arguments: TrainArguments) -> LoraPlan | None:
    if not arguments.lora_rank:
        if arguments.save_adapter:
            raise UsageError("--save-adapter: there is none without LoRA; expected --lora-rank N as well")
        return None
    return LoraPlan(
        rank=arguments.lora_rank,
        alpha=arguments.lora_alpha,
        dropout=arguments.lora_dropout,
        backbone=bool(arguments.lora_full_model),
    )


def _parts_of(arguments: TrainArguments, lora: LoraPlan | None) -> tuple[str, ...]:
    """What is trained: --parts, or the usual ones as the switches change them."""
    switched = {part: getattr(arguments, name) for part, name in _SWITCHES.items()}
    if arguments.parts is not None:
        for part, wanted in switched.items():
            if wanted is not None and wanted != (part in arguments.parts):
                switch = f"--{'' if wanted else 'no-'}{_SWITCHES[part].replace('_', '-')}"
                raise UsageError(
                    f"--parts {' '.join(arguments.parts)} and {switch}: one thing in two ways; "
                    "give one of them"
                )
        return arguments.parts
    if lora is not None:
        # As in Isaac-GR00T, LoRA leaves everything else as it is; but what is asked for in words is done.
        return ("projector",) if switched["projector"] else ()
    return tuple(
        part for part, wanted in switched.items() if wanted or (wanted is None and part in _DEFAULT_PARTS)
    )


def check_tracker(report_to: Reports | None) -> None:
    """Find out at the start whether the tracker is there.

    Raises:
        UsageError: the package is not installed.
    """
    if report_to == "tensorboard" and importlib.util.find_spec(WRITER_PACKAGE) is None:
        raise UsageError(
            f"--report-to tensorboard needs the package {WRITER_PACKAGE}, which is not installed; run: "
            f"{how_to_install('train')}"
        )


def remarks(arguments: TrainArguments, processes: int) -> Iterator[str]:
    """What a user should know of the flags: those without effect, and what is easily misread.

    Raises:
        UsageError: a tracker that is not built in.
    """
    if arguments.report_to in ("wandb", "azure_ml"):
        raise UsageError(
            f"--report-to {arguments.report_to}: not built in; expected tensorboard or none. TensorBoard's "
            "event files can be sent on: wandb sync --sync-tensorboard OUTPUT/runs"
        )
    if arguments.report_to is None and isinstance(arguments, FinetuneArguments):
        yield "--report-to is not given: Isaac-GR00T would report to wandb; here figures go to training.jsonl"
    for name, why in (
        ("dataloader_num_workers", "one thread reads the next batch while a step is learned from"),
        ("dataloader_prefetch_factor", "one thread reads the next batch while a step is learned from"),
    ):
        if getattr(arguments, name) is not None:
            yield f"{_flag(name)} {getattr(arguments, name)}: without effect; {why}"
    if len(arguments.data) == 1:
        for name in ("balance_dataset_weights", "balance_trajectory_weights"):
            if getattr(arguments, name) is not None:
                yield f"{_flag(name)}: without effect; there is one data set, whose time steps are as likely"
        if arguments.data_weights:
            yield "--data-weights: without effect; there is one data set"
    if arguments.lora_rank:
        yield from _remarks_on_lora(arguments)
    elif arguments.lora_full_model:
        yield "--lora-full-model: without effect; without --lora-rank there is no LoRA"
    total = arguments.batch_size * arguments.gradient_accumulation_steps
    total *= processes if arguments.batch_per_process else 1
    if total != arguments.batch_size:
        each = f" on each of {processes} processes" if arguments.batch_per_process and processes > 1 else ""
        yield (
            f"{arguments.batch_size} samples at once{each}, {arguments.gradient_accumulation_steps} times: "
            f"each step learns from {total}"
        )


def _remarks_on_lora(arguments: TrainArguments) -> Iterator[str]:
    where = "the adapter and the DiT"
    if arguments.lora_full_model:
        where += ", the language model and the vision tower"
    yield f"LoRA of rank {arguments.lora_rank} beside queries, keys and values of {where}"
    if not arguments.tune_projector and arguments.parts is None:
        yield (
            "as in Isaac-GR00T, LoRA leaves the robot's encoders and decoder as they are in the checkpoint, "
            "also where those have never seen this robot; --tune-projector trains them, too"
        )
    for part in ("vision", "language", "diffusion"):
        wanted = getattr(arguments, _SWITCHES[part])
        if wanted is not None:
            yield (
                f"{_flag(_SWITCHES[part])} {wanted}: without effect beside --lora-rank; where LoRA is, "
                "--lora-full-model decides"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
