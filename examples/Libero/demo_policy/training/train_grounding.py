"""Teach a network that starts from nothing what things are and what they are called.

    python -m examples.Libero.demo_policy.training.train_grounding --checkpoint A --scenes B --output C

It reads what collect_scenes.py has drawn, trains vision first and then vision, language model and adapter
together (`grounding.py`), and writes a checkpoint for train.py to start from. It says at the end how often it
points at the right place in scenes that it was not trained on.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from examples.Libero.demo_policy.training.grounding import Questions, ground
from examples.Libero.demo_policy.training.scenes import load_scenes
from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.files.atomic import atomic_write
from gr00t.model.checkpoint.folder import resolve_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer
from gr00t.training.plan import TrainingPlan


@dataclasses.dataclass(frozen=True)
class GroundingOptions:
    """Teach a network what things are and what they are called."""

    checkpoint: str
    """Folder to start from."""
    scenes: Path
    """Folder of labelled scenes."""
    output: Path
    """Folder for the checkpoint; must not be there yet."""
    vision_steps: int = 2500
    """Steps of vision alone."""
    steps: int = 1000
    """Steps of vision and language together."""
    learning_rates: tuple[float, float] = (2e-3, 1e-3)
    """Their peaks, in this order."""
    batch_size: int = 32
    """Scenes per step."""
    held_out: int = 400
    """Scenes that are only looked at in the end."""
    instruction: str = "pick up the {} and place it in the basket"
    """What is asked; {} stands for the name of the object."""
    seed: int = 0
    """Of batches and of what is asked."""


def train(options: GroundingOptions) -> dict[str, float]:
    """Train and write; return the shares of held-out places that are found.

    Raises:
        UsageError: there is such a folder already, or no scene is left to train on.
        ValueError: scenes and checkpoint that do not fit together.
    """
    if options.output.exists():
        raise UsageError(f"{options.output} is there already")
    start = resolve_checkpoint(options.checkpoint)
    scenes = load_scenes(options.scenes)
    count = len(scenes.images)
    if not 0 < options.held_out < count:
        raise UsageError(f"--held-out {options.held_out}: expected 1 to {count - 1}")
    order = np.random.default_rng(options.seed).permutation(count)
    model = GR00T_N1_5.from_pretrained(start).float()
    tokenizer = resolve_tokenizer(start)
    prompts = scenes.prompts(options.instruction)
    stages: Sequence[tuple[int, list[str]]] = ((options.vision_steps, []), (options.steps, prompts))
    found: dict[str, float] = {}
    for rate, (steps, asked) in zip(options.learning_rates, stages, strict=True):
        plan = TrainingPlan(
            steps=steps,
            learning_rate=rate,
            weight_decay=0.01,
            betas=(0.9, 0.95),
            seed=options.seed,
        )
        questions = Questions(
            *(model, scenes.images, scenes.centres, asked, tokenizer),
            chosen=order[options.held_out :],
            batch_size=options.batch_size,
            seed=options.seed,
        )
        with tqdm(total=steps, unit="step", desc="language" if asked else "vision") as bar:
            for figures in ground(model, questions, plan):
                bar.update()
                bar.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in figures.items() if k != "step"))
        found = questions.evaluate(model, order[: options.held_out])
    with atomic_write(options.output) as aside:
        shutil.copytree(start, aside)
        model.save_pretrained(aside)
    return found


def run(options: GroundingOptions) -> None:
    """Train, and tell the held-out shares as JSON in the last line."""
    torch.manual_seed(options.seed)
    print(json.dumps({"checkpoint": str(options.output), **train(options)}))


def main() -> int:
    """Run as a program; return the exit status."""
    return run_command(GroundingOptions, run, __doc__, interrupted="interrupted; nothing was written")


if __name__ == "__main__":
    raise SystemExit(main())
