"""Oracles: the same run without an interruption, the untrained weights, and schedules by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.training.losses import Loss, Part, TrainingStep, watched
from gr00t.training.plan import TrainingPlan
from gr00t.training.state import read_state, write_state
from gr00t.training.trainer import FLOW_MATCHING, Trainer, TrainingError
from tests.training.samples import InventedSamples, bound_transform

CPU = torch.device("cpu")


def trainer(checkpoint: Path, plan: TrainingPlan, time_steps: int = 3) -> Trainer:
    samples = InventedSamples(checkpoint, time_steps)
    model = GR00T_N1_5.from_pretrained(checkpoint)
    return Trainer(model, samples, bound_transform(checkpoint, samples.metadata), plan, CPU)


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
    kept = dict(second.weights())
    for name, value in whole.weights():
        assert torch.equal(value, kept[name]), name


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
        for name, value in run.weights()
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


class StateLoss(Loss):
    """What a linear layer makes of the first state; one more loss, as a program would pass it."""

    name = "state"

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.parts: list[tuple[int, int, tuple[int, ...]]] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._layer = torch.nn.Linear(64, 1)

    def layers(self) -> dict[str, torch.nn.Module]:
        return {"state_head": self._layer}

    def identity(self) -> dict[str, float]:
        return {"state_weight": self.weight}

    def targets(self, model: GR00T_N1_5, step: TrainingStep) -> dict[str, torch.Tensor]:
        return {"number": torch.from_numpy(step.samples).float()}

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[torch.Tensor, dict[str, float]] | None:
        self.parts.append((part.step.number, part.number, tuple(part.targets["number"].long().tolist())))
        if part.number:
            return None
        missed = self._layer(part.inputs.state[:, 0])[:, 0] - part.targets["number"]
        return missed.square().mean(), {"asked": 3.0}


def with_loss(checkpoint: Path, loss: Loss, **changes: object) -> Trainer:
    samples, model = InventedSamples(checkpoint, 3), GR00T_N1_5.from_pretrained(checkpoint)
    transform = bound_transform(checkpoint, samples.metadata)
    return Trainer(model, samples, transform, plan(**changes), CPU, [FLOW_MATCHING, loss])


def test_a_further_loss_is_weighted_told_and_goes_on_but_is_not_saved(
    checkpoint: Path, tmp_path: Path
) -> None:
    loss = StateLoss(0.5)
    whole = with_loss(checkpoint, loss, accumulation=2)
    told = list(whole.run())
    for line in told:
        assert line["loss"] == pytest.approx(line["flow_loss"] + 0.5 * line["state_loss"])
        assert line["asked"] == 3.0
    # Each part sees its own samples, those that its step has drawn.
    assert [part[:2] for part in loss.parts] == [(step, number) for step in range(4) for number in (0, 1)]
    drawn = whole.prepare(2).samples
    assert [part[2] for part in loss.parts[4:6]] == [tuple(drawn[:2]), tuple(drawn[2:])]
    assert dict(whole.weights()).keys() == GR00T_N1_5.from_pretrained(checkpoint).state_dict().keys()

    first = with_loss(checkpoint, StateLoss(0.5), accumulation=2)
    steps = first.run()
    next(steps)
    first.save(tmp_path)
    steps.close()
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    assert state["parameters"]["state_head.weight"].shape == (1, 64)
    second = with_loss(checkpoint, StateLoss(0.5), accumulation=2)
    assert second.resume(tmp_path)
    assert list(without_times(second.run())) == list(without_times(told[1:]))
    kept = dict(second.weights())
    assert all(torch.equal(value, kept[name]) for name, value in whole.weights())


def without_times(lines: Iterable[dict[str, float]]) -> Iterator[dict[str, float]]:
    return ({key: value for key, value in line.items() if key != "seconds"} for line in lines)


def test_other_losses_do_not_go_on_with_an_older_state(checkpoint: Path, tmp_path: Path) -> None:
    trainer(checkpoint, plan()).save(tmp_path / "without")
    with_loss(checkpoint, StateLoss(0.5)).save(tmp_path / "with")
    for folder, other, said in (
        ("without", with_loss(checkpoint, StateLoss(0.5)), "state_weight None -> 0.5"),
        ("with", with_loss(checkpoint, StateLoss(2.0)), "state_weight 0.5 -> 2.0"),
        ("with", trainer(checkpoint, plan()), "state_weight 0.5 -> None"),
    ):
        with pytest.raises(TrainingError, match=f"of another run: {said};"):
            other.resume(tmp_path / folder)


def test_a_loss_that_an_earlier_version_did_without_is_none(checkpoint: Path, tmp_path: Path) -> None:
    """Its plan had the weights of the demonstration policy's losses, 0 where there were none."""
    run = trainer(checkpoint, plan())
    run.save(tmp_path)
    state = read_state(tmp_path / "training_state.pt", CPU)
    state["run"] |= {"waypoint_weight": 0.0, "grounding_weight": 0.0}
    write_state(state, tmp_path)
    assert trainer(checkpoint, plan()).resume(tmp_path)


def test_what_modules_put_out_is_kept_while_it_is_watched(checkpoint: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(torch.nn.ReLU()))
    with watched(network, ["1.0"]) as outputs:
        network(torch.tensor([-1.0, 2.0]))
        network(torch.tensor([3.0]))
    network(torch.tensor([4.0]))
    assert [value.tolist() for value in outputs["1.0"]] == [[0.0, 2.0], [3.0]]
    assert outputs.keys() == {"1.0"}


class Named(StateLoss):
    """`StateLoss` by another name, of which one more thing is given."""

    def __init__(self, name: str, gives: str) -> None:
        super().__init__()
        self.name, self._gives = name, gives

    def layers(self) -> dict[str, torch.nn.Module]:
        return super().layers() if self._gives == "layers" else {}

    def identity(self) -> dict[str, float]:
        return {"state_weight": 1.0} if self._gives == "identity" else {}

    def targets(self, model: GR00T_N1_5, step: TrainingStep) -> dict[str, torch.Tensor]:
        return {"number" if self._gives == "target" else self.name: torch.from_numpy(step.samples).float()}

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[torch.Tensor, dict[str, float]] | None:
        return part.inputs.state.sum() * 0.0, {self._gives: 1.0}


class Reader(Named):
    """Reads what flow matching makes the network compute."""

    watches = ("action_head.action_decoder",)

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[torch.Tensor, dict[str, float]] | None:
        return part.outputs[self.watches[0]][0].sum() * 0.0, {}


def with_losses(checkpoint: Path, losses: list[Loss]) -> Trainer:
    samples, model = InventedSamples(checkpoint, 3), GR00T_N1_5.from_pretrained(checkpoint)
    return Trainer(model, samples, bound_transform(checkpoint, samples.metadata), plan(), CPU, losses)


@pytest.mark.parametrize(
    ("name", "gives", "said"),
    [
        ("state", "nothing", "state and state both have the name 'state'"),
        ("other", "layers", "state and other both have layers 'state_head'"),
        ("other", "identity", "state and other both have a key of the identity 'state_weight'"),
    ],
)
def test_losses_that_would_overwrite_each_other_are_refused(
    name: str, gives: str, said: str, checkpoint: Path
) -> None:
    with pytest.raises(ValueError, match=f"^losses: {said}; expected another for each$"):
        with_losses(checkpoint, [FLOW_MATCHING, StateLoss(), Named(name, gives)])


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        ("target", "state and other both have a target 'number'"),
        ("asked", "state and other both have a figure 'asked'"),
    ],
)
def test_what_losses_give_step_by_step_is_not_overwritten_either(
    gives: str, said: str, checkpoint: Path
) -> None:
    run = with_losses(checkpoint, [FLOW_MATCHING, StateLoss(), Named("other", gives)])
    with pytest.raises(ValueError, match=f"^losses: {said}; expected another for each$"):
        next(run.run())


def test_a_loss_that_reads_what_a_later_one_computes_is_refused(checkpoint: Path) -> None:
    reader = Reader("reader", "nothing")
    assert "reader_loss" in next(with_losses(checkpoint, [FLOW_MATCHING, reader]).run())
    with pytest.raises(
        ValueError, match=r"reads what action_head\.action_decoder puts out, but no loss before"
    ):
        next(with_losses(checkpoint, [reader, FLOW_MATCHING]).run())


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
    run.model.load_state_dict(dict(run.weights()))
    run.model.save_pretrained(tmp_path)
    again = GR00T_N1_5.from_pretrained(tmp_path)
    assert torch.equal(again.action_head.future_tokens, dict(run.weights())["action_head.future_tokens"])
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gr00t_n1_5"
