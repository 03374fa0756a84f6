"""Teach a network that starts from nothing what things are and what they are called.

    python scripts/train_grounding.py --checkpoint FOLDER --scenes FOLDER --output FOLDER

It reads what scripts/collect_scenes.py has drawn, trains vision first and then vision, language model and
adapter together (`gr00t/experiment/grounding.py`), and writes a checkpoint for scripts/train.py to start
from. It says at the end how often it points at the right place in scenes that it was not trained on.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from gr00t.console import log_to_stderr
from gr00t.experiment.grounding import Grounding
from gr00t.experiment.training_plan import TrainingPlan
from gr00t.model.checkpoint import resolve_checkpoint
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.tokenizer import resolve_tokenizer


@dataclasses.dataclass(frozen=True)
class Options:
    """Teach a network what things are and what they are called."""

    checkpoint: str
    """Folder to start from."""
    scenes: Path
    """Folder of labelled scenes."""
    output: Path
    """Folder for the checkpoint; must not be there yet."""
    vision_steps: int = 1000
    """Steps of vision alone."""
    steps: int = 700
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


Scenes = tuple[NDArray[np.uint8], NDArray[np.float32]]


def load_scenes(folder: Path) -> tuple[Scenes, list[str]]:
    """All scenes of a folder, in one order, and the kinds of objects that are labelled.

    Raises:
        ValueError: there are none, or they are labelled differently.
    """
    files = [np.load(path) for path in sorted(folder.glob("*.npz")) if ".partial-" not in path.name]
    if not files:
        raise ValueError(f"{folder}: no scenes; scripts/collect_scenes.py makes them")
    kinds = [file["kinds"].tolist() for file in files]
    if any(names != kinds[0] for names in kinds):
        raise ValueError(f"{folder}: files that label different kinds of objects")
    images = np.concatenate([file["images"] for file in files])
    return (images, np.concatenate([file["centres"] for file in files])), kinds[0]


def train(options: Options) -> dict[str, float]:
    """Train and write; return the shares of held-out places that are found.

    Raises:
        ValueError: options, scenes and checkpoint that do not fit together.
    """
    if options.output.exists():
        raise ValueError(f"{options.output} is there already")
    start = resolve_checkpoint(options.checkpoint)
    (images, centres), kinds = load_scenes(options.scenes)
    if not 0 < options.held_out < len(images):
        raise ValueError(f"--held-out {options.held_out}: expected 1 to {len(images) - 1}")
    order = np.random.default_rng(options.seed).permutation(len(images))
    model = GR00T_N1_5.from_pretrained(start).float()
    tokenizer = resolve_tokenizer(start)
    # Things are put into the basket, which is the last kind and is never asked for.
    prompts = [options.instruction.format(kind) for kind in kinds[:-1]]
    stages: Sequence[tuple[int, list[str]]] = ((options.vision_steps, []), (options.steps, prompts))
    found: dict[str, float] = {}
    for rate, (steps, asked) in zip(options.learning_rates, stages, strict=True):
        plan = TrainingPlan(
            steps=steps,
            batch_size=options.batch_size,
            learning_rate=rate,
            weight_decay=0.01,
            betas=(0.9, 0.95),
            seed=options.seed,
        )
        run = Grounding(model, images, centres, asked, tokenizer, plan, order[options.held_out :])
        with tqdm(total=steps, unit="step", desc="language" if asked else "vision") as bar:
            for figures in run.run():
                bar.update()
                bar.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in figures.items() if k != "step"))
        found = run.evaluate(order[: options.held_out])
    partial = options.output.with_name(f"{options.output.name}.partial")
    shutil.copytree(start, partial, dirs_exist_ok=True)
    model.save_pretrained(partial)
    partial.rename(options.output)
    return found


def main() -> int:
    """Run as a program: the held-out shares as JSON in the last line."""
    log_to_stderr()
    options = tyro.cli(Options, description=__doc__)
    try:
        torch.manual_seed(options.seed)
        print(json.dumps({"checkpoint": str(options.output), **train(options)}))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
