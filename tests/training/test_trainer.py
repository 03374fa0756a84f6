"""Oracles: the same run without an interruption, the untrained weights, and schedules by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer
from gr00t.testing.random_checkpoint import write_random_checkpoint
from gr00t.training.demo.grounding import Questions
from gr00t.training.plan import TrainingPlan
from gr00t.training.trainer import Trainer, TrainingError
from tests.training.samples import InventedSamples, bound_transform

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("small"), torch_dtype=torch.float32)


def trainer(checkpoint: Path, plan: TrainingPlan, time_steps: int = 3) -> Trainer:
    samples = InventedSamples(checkpoint, time_steps)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    return Trainer(model, samples, bound_transform(checkpoint, samples.metadata), plan, CPU)


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


def plan(**changes: object) -> TrainingPlan:
    settings: dict[str, object] = {
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "ema_decay": 0.9,
        "precision": "float32",
    }
    return TrainingPlan(**{**settings, **changes})  # type: ignore[arg-type]


def test_a_resumed_run_ends_with_the_same_bits(checkpoint: Path, tmp_path: Path) -> None:
    whole = trainer(checkpoint, plan())
    losses = [figures["loss"] for figures in whole.run()]

    first = trainer(checkpoint, plan())
    steps = first.run()
    begun = [next(steps)["loss"], next(steps)["loss"]]
    first.save(tmp_path)
    steps.close()
    second = trainer(checkpoint, plan())
    assert second.resume(tmp_path)
    assert second.step == 2
    assert begun + [figures["loss"] for figures in second.run()] == losses
    for name, value in whole.averaged().items():
        assert torch.equal(value, second.averaged()[name]), name


def test_the_loss_falls_where_the_batches_repeat(checkpoint: Path) -> None:
    run = trainer(checkpoint, plan(steps=10, warmup=0.0, batch_size=3))
    repeated = run.prepare(0)
    run.prepare = lambda step: repeated  # type: ignore[method-assign]
    losses = [figures["loss"] for figures in run.run()]
    # Measured: 1.62 over the first three steps, 1.14 over the last three.
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_only_the_chosen_parts_change(checkpoint: Path) -> None:
    before = GR00T_N1_5.from_pretrained(checkpoint).state_dict()
    run = trainer(checkpoint, plan(steps=1, ema_decay=0.0, parts=("diffusion",)))
    list(run.run())
    changed = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, value in run.averaged().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {
        "action_head.future_tokens",
        "action_head.layers",
        "action_head.out_norm",
        "action_head.out_proj",
        "action_head.time_encoder",
        "adapter.layers",
        "adapter.norm",
    }


def test_the_learning_rate_rises_and_falls_along_a_cosine() -> None:
    schedule = plan(steps=100, warmup=0.1, learning_rate=2.0)
    assert schedule.learning_rate_at(0) == pytest.approx(2 / 11)
    assert schedule.learning_rate_at(10) == pytest.approx(2.0)
    assert schedule.learning_rate_at(55) == pytest.approx(1.0)
    assert schedule.learning_rate_at(99) < 0.001


def test_another_plan_does_not_go_on_with_an_older_state(checkpoint: Path, tmp_path: Path) -> None:
    trainer(checkpoint, plan()).save(tmp_path)
    with pytest.raises(TrainingError, match=r"of another run: learning_rate 0.001 -> 0.002, seed 0 -> 5"):
        trainer(checkpoint, plan(learning_rate=2e-3, seed=5)).resume(tmp_path)


def test_other_data_do_not_go_on_with_an_older_state(checkpoint: Path, tmp_path: Path) -> None:
    trainer(checkpoint, plan(), time_steps=3).save(tmp_path)
    with pytest.raises(TrainingError, match=r"of another run: time_steps 3 -> 4; name another folder"):
        trainer(checkpoint, plan(), time_steps=4).resume(tmp_path)


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
        return Trainer(model, samples, transform, plan(grounding_weight=0.5), CPU, questions=questions)

    asked().save(tmp_path)
    assert asked().resume(tmp_path)
    with pytest.raises(TrainingError, match=f"of another run: {message}"):
        asked(**changes).resume(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(checkpoint: Path) -> None:
    run = trainer(checkpoint, plan())
    with torch.no_grad():
        run.model.action_head.out_proj.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 0: loss nan"):
        list(run.run())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a positive number, got nan"),
        ({"ema_decay": 1.0}, r"ema_decay: expected a number in \[0, 1\), got 1.0"),
        ({"parts": ("vison",)}, "parts: 'vison': did you mean vision"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_the_saved_model_is_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    run = trainer(checkpoint, plan(steps=1))
    list(run.run())
    run.model.load_state_dict(run.averaged())
    run.model.save_pretrained(tmp_path)
    again = GR00T_N1_5.from_pretrained(tmp_path)
    assert torch.equal(again.action_head.future_tokens, run.averaged()["action_head.future_tokens"])
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gr00t_n1_5"


def test_questions_about_scenes_keep_what_was_learned_of_seeing(checkpoint: Path, tmp_path: Path) -> None:
    model = GR00T_N1_5.from_pretrained(checkpoint)
    questions = questions_of(checkpoint, model)
    samples = InventedSamples(checkpoint, 3)
    transform = bound_transform(checkpoint, samples.metadata)
    run = Trainer(model, samples, transform, plan(grounding_weight=0.5), CPU, questions=questions)
    first = next(run.run())
    assert first["loss"] == pytest.approx(first["flow_loss"] + 0.5 * first["grounding_loss"])
    assert {"seen", "meant"} <= set(first)
    # What is saved are the model's own weights; what is resumed are those of the questions, too.
    assert run.averaged().keys() == GR00T_N1_5.from_pretrained(checkpoint).state_dict().keys()
    run.save(tmp_path)
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    assert "questions.meant.answer.weight" in state["parameters"]
    with pytest.raises(TrainingError, match="questions and grounding_weight: expected both, or neither"):
        Trainer(model, samples, transform, plan(), CPU, questions=questions)
