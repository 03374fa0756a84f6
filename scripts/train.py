"""Train GR00T N1.5 on demonstrations in the LeRobot v2 layout.

    python scripts/train.py --data FOLDER --checkpoint nvidia/GR00T-N1.5-3B --output FOLDER --steps 10000

It starts from a checkpoint and ends with one, in NVIDIA's layout, with the statistics of the data. The same
command goes on where an interrupted run was, and ends with the same weights as one that was not interrupted.

    torchrun --nproc-per-node 2 scripts/train.py ...

divides every batch among processes: one for each GPU, or for each core if the network is small.

The data configuration names the keys; `meta/modality.json` of the data says where they are.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from gr00t.console import log_to_stderr
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.frame_source import FrameSource
from gr00t.data.lerobot.layout import Layout
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.eval.libero.episode import policy_input
from gr00t.eval.libero.simulator import Observation
from gr00t.experiment.data_config import load_data_config
from gr00t.experiment.grounding import Questions
from gr00t.experiment.reaching import Reaching
from gr00t.experiment.scenes import SceneFiles, load_scenes
from gr00t.experiment.team import ALONE, Team, joined_team
from gr00t.experiment.train import Trainer
from gr00t.experiment.training_plan import TrainingPlan
from gr00t.experiment.waypoints import normalized_waypoints
from gr00t.model.binding import bind_to_model
from gr00t.model.checkpoint import resolve_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.tokenizer import TOKENIZER_FILES, PromptTokenizer, resolve_tokenizer
from gr00t.output_folder import writing
from gr00t.quantization.manifest import read_manifest

logger = logging.getLogger("gr00t.train")

_SCENES_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train GR00T N1.5 on demonstrations in the LeRobot v2 layout."""

    data: Path
    """Folder of the demonstrations."""
    checkpoint: str
    """Checkpoint folder or model hub id to start from."""
    output: Path
    """Folder for the trained checkpoint, the log and the state of the run."""
    steps: int
    """Optimizer steps."""
    data_config: str = "examples.Libero.custom_data_config:LiberoDataConfig"
    """Keys and transforms: a registered name, or "module:Class" of your own."""
    embodiment_tag: str = "new_embodiment"
    """Whose encoders and decoder are trained."""
    stop_after: int | None = None
    """Write the checkpoint at this step already and stop; the same command goes on from there."""
    batch_size: int = 32
    """Samples per step."""
    learning_rate: float = 1e-4
    """Its peak: it rises over 5 %% of the steps and falls along a cosine."""
    weight_decay: float = 1e-5
    """Of AdamW, on matrices."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Of AdamW."""
    ema_decay: float = 0.0
    """Save weights averaged with this decay; 0: the last ones."""
    draws: int = 1
    """Flow noises and times per sample and step; more cost little where the encoder is large."""
    parts: tuple[str, ...] = ("projector", "diffusion")
    """What is trained besides the adapter: vision, language, projector, diffusion."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """In which matrices are multiplied; weights stay float32."""
    seed: int = 0
    """Of batches, augmentations, noises and times."""
    waypoint_weight: float = 0.0
    """Of an auxiliary loss: where the hand will be when the gripper next moves; helps from scratch."""
    grounding_weight: float = 0.0
    """Of another one: where the object stands that an instruction names, in the scenes of --scenes."""
    scenes: Path | None = None
    """Folder of labelled scenes, from collect_scenes.py."""
    scene_batch: int = 16
    """Scenes per step."""
    instruction: str = "pick up the {} and place it in the basket"
    """What is asked of a scene; {} stands for the name of the object."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one. Several processes: cuda, a GPU each, or cpu."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt, as it will be served: ['TEXT'] or TEXT."""
    save_every: int = 500
    """Steps between saves of the run's state."""
    log_every: int = 20
    """Steps between lines of training.jsonl."""
    cache: Path | None = None
    """Folder for decoded frames (default: frames/ in the output)."""
    frames: FrameSource = "auto"
    """cache: decoded once, to the folder; decode: when needed; auto: the cache if there is room for it."""


def plan_of(arguments: Arguments) -> TrainingPlan:
    """The run, apart from its data."""
    names = [field.name for field in dataclasses.fields(TrainingPlan)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return TrainingPlan(**given)


def load_data(arguments: Arguments, data_config: Any) -> LeRobotDataset:
    """The demonstrations, their frames decoded."""
    cameras = data_config.modality_config()["video"].modality_keys
    videos = len(cameras) * len(Layout.read(arguments.data).episodes)
    with tqdm(total=videos, unit="video", desc="decoding") as bar:
        return LeRobotDataset(
            arguments.data,
            data_config.modality_config(),
            arguments.cache or arguments.output / "frames",
            frames=arguments.frames,
            on_video=lambda: bar.update() and None,
        )


def train(arguments: Arguments, team: Team = ALONE) -> dict[str, Any]:
    """Train and, in the first process of a team, write the checkpoint; return what happened.

    Raises:
        ValueError: data, checkpoint and configuration that do not fit together, or a run that cannot go on.
    """
    plan = plan_of(arguments)
    device = team.device(arguments.device)
    tag = EmbodimentTag(arguments.embodiment_tag)
    data_config = load_data_config(arguments.data_config)
    start = resolve_checkpoint(arguments.checkpoint)
    artefact = read_manifest(start)
    if artefact is not None:
        raise ValueError(
            f"{start} is quantized and cannot be trained; start from the checkpoint that it was exported "
            f"from: {artefact.checkpoint}"
        )
    tokenizer = resolve_tokenizer(start, arguments.tokenizer)
    if team.rank:
        team.wait()  # for the frames
    samples = load_data(arguments, data_config)
    if not team.rank:
        team.wait()
    metadata = samples.metadata(tag)
    model = GR00T_N1_5.from_pretrained(start)
    transform: ComposedModalityTransform = data_config.transform()
    transform.set_metadata(metadata)
    bind_to_model(transform, model.config, tokenizer, tag, arguments.prompt_style)
    waypoints = normalized_waypoints(samples) if plan.waypoint_weight else None
    questions = ask(arguments, model, transform, tokenizer, team) if plan.grounding_weight else None
    trainer = Trainer(model, samples, transform, plan, device, waypoints, questions, team)
    if trainer.resume(arguments.output):
        logger.info("going on from step %d of %d", trainer.step, plan.steps)
    logger.info("%d time steps, %d episodes", len(samples), len(samples.layout.episodes))
    started = time.perf_counter()
    losses = learn(trainer, arguments, team)
    if not team.rank:
        write_checkpoint(trainer, start, metadata, arguments.output / "checkpoint")
    return {
        "checkpoint": str(arguments.output / "checkpoint"),
        "steps": trainer.step,
        "time_steps": len(samples),
        "loss": round(losses[-1], 5) if losses else None,
        "seconds": round(time.perf_counter() - started, 1),
    }


def ask(
    arguments: Arguments,
    model: GR00T_N1_5,
    transform: ComposedModalityTransform,
    tokenizer: PromptTokenizer,
    team: Team,
) -> Questions:
    """A process' share of the questions about labelled scenes.

    Raises:
        ValueError: there are no scenes, or --scene-batch cannot be shared.
    """
    if arguments.scenes is None:
        raise ValueError(
            "--grounding-weight: expected --scenes as well; scripts/collect_scenes.py makes them"
        )
    scenes = load_scenes(arguments.scenes)
    return Questions(
        *(model, scenes.images, scenes.centres, scenes.prompts(arguments.instruction), tokenizer),
        chosen=np.arange(team.rank, len(scenes.images), team.size),
        batch_size=team.share_of("--scene-batch", arguments.scene_batch),
        seed=arguments.seed,
        reaching=Reaching(model.action_head, *served_states(transform, scenes), scenes.ways()),
    )


def served_states(transform: ComposedModalityTransform, scenes: SceneFiles) -> tuple[Tensor, int]:
    """States (N, S, max_state_dim) of the N scenes as the network would take them; the robot's number."""
    transform.eval()
    states = []
    for start in range(0, len(scenes.states), _SCENES_AT_ONCE):
        chosen = slice(start, start + _SCENES_AT_ONCE)
        shown = [
            policy_input(Observation(*images, state), "")
            for images, state in zip(scenes.images[chosen], scenes.states[chosen], strict=True)
        ]
        inputs = transform({key: np.stack([each[key] for each in shown]) for key in shown[0]})
        states.append(inputs["state"])
    return torch.cat(states).float(), int(inputs["embodiment_id"][0])


def learn(trainer: Trainer, arguments: Arguments, team: Team) -> list[float]:
    """Run to the end or to `stop_after`, with progress, log and saves; return the mean losses of the log.

    Only the first process of a team writes and speaks.
    """
    logged: list[float] = []
    losses: list[float] = []
    begun = time.perf_counter()
    last = min(arguments.steps, arguments.stop_after or arguments.steps)
    name = Path(os.devnull) if team.rank else arguments.output / "training.jsonl"
    bar = tqdm(initial=trainer.step, total=arguments.steps, unit="step", disable=bool(team.rank))
    with name.open("a", encoding="utf-8") as log, bar:
        steps = trainer.run()
        while trainer.step < last:
            figures = next(steps)
            losses.append(figures["loss"])
            bar.update()
            if trainer.step % arguments.log_every == 0 or trainer.step == last:
                mean = sum(losses) / len(losses)
                line = {**figures, "loss": mean, "elapsed": time.perf_counter() - begun}
                log.write(json.dumps({key: round(value, 6) for key, value in line.items()}) + "\n")
                log.flush()
                bar.set_postfix_str(f"loss {mean:.4f}")
                logged.append(mean)
                losses = []
            if not team.rank and (trainer.step % arguments.save_every == 0 or trainer.step == last):
                trainer.save(arguments.output)
        steps.close()
    return logged


def write_checkpoint(trainer: Trainer, start: Path, metadata: DatasetMetadata, folder: Path) -> None:
    """Write weights, metadata and tokenizer: a folder that a server loads."""
    trained = trainer.averaged()
    model = GR00T_N1_5.on_meta(trainer.model.config, torch.bfloat16)
    state = {name: value.to("cpu", torch.bfloat16) for name, value in trained.items()}
    model.load_state_dict(state, strict=True, assign=True)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "experiment_cfg").mkdir(exist_ok=True)
    described = {metadata.embodiment_tag.value: metadata.model_dump(mode="json")}
    (folder / "experiment_cfg" / "metadata.json").write_text(json.dumps(described, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        if (start / name).is_file():
            shutil.copyfile(start / name, folder / name)


def main() -> int:
    """Run as a program: status 0 when the checkpoint is there."""
    log_to_stderr()
    arguments = tyro.cli(Arguments, description=__doc__)
    try:
        with writing(arguments.output, "--output"):
            arguments.output.mkdir(parents=True, exist_ok=True)
        with joined_team() as team:
            result = train(arguments, team)
            if not team.rank:
                print(json.dumps(result))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last save", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
