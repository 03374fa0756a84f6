"""Questions as one of the losses of a training. Oracles: the sum by hand, and what another run was asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.Libero.demo_policy.training.grounding import GroundingLoss, Questions
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import FLOW_MATCHING, Trainer, TrainingError
from tests.training.samples import InventedSamples, bound_transform

CPU = torch.device("cpu")
PLAN = TrainingPlan(steps=4, batch_size=2, learning_rate=1e-3, ema_decay=0.9, precision="float32")


def questions_of(checkpoint: Path, model: GR00T_N1_5, **changes: object) -> Questions:
    random = np.random.default_rng(0)
    settings: dict[str, object] = {
        "prompts": ["lift the cup", "lift the can"],
        "chosen": np.arange(5),
        "batch_size": 2,
    }
    return Questions(
        model,
        random.integers(0, 256, (5, 2, 32, 32, 3), dtype=np.uint8),
        random.random((5, 2, 3, 2), dtype=np.float32),
        tokenizer=resolve_tokenizer(checkpoint),
        seed=0,
        **{**settings, **changes},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": np.arange(4)}, "scenes 5 -> 4;"),
        ({"batch_size": 4}, "scene_batch 2 -> 4;"),
        # The first one is the same.
        ({"prompts": ["lift the cup", "raise the can"]}, r"prompts \['lift the cup', .* 'raise the can'\];"),
    ],
)
def test_other_questions_do_not_go_on_with_an_older_state(
    changes: dict[str, object], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    def asked(**settings: object) -> Trainer:
        samples, model = InventedSamples(checkpoint, 3), GR00T_N1_5.from_pretrained(checkpoint)
        transform = bound_transform(checkpoint, samples.metadata)
        questions = questions_of(checkpoint, model, **settings)
        return Trainer(model, samples, transform, PLAN, CPU, [FLOW_MATCHING, GroundingLoss(questions, 0.5)])

    asked().save(tmp_path)
    assert asked().resume(tmp_path)
    with pytest.raises(TrainingError, match=f"of another run: {message}"):
        asked(**changes).resume(tmp_path)


def test_questions_about_scenes_keep_what_was_learned_of_seeing(checkpoint: Path, tmp_path: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint)
    questions = questions_of(checkpoint, model)
    samples = InventedSamples(checkpoint, 3)
    transform = bound_transform(checkpoint, samples.metadata)
    losses = [FLOW_MATCHING, GroundingLoss(questions, 0.5)]
    run = Trainer(model, samples, transform, PLAN, CPU, losses)
    first = next(run.run())
    assert first["loss"] == pytest.approx(first["flow_loss"] + 0.5 * first["grounding_loss"])
    assert {"seen", "meant"} <= set(first)
    # What is saved are the model's own weights; what is resumed are those of the questions, too.
    assert dict(run.weights()).keys() == GR00T_N1_5.from_pretrained(checkpoint).state_dict().keys()
    run.save(tmp_path)
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    assert "questions.meant.answer.weight" in state["parameters"]
