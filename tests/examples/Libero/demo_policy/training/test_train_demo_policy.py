"""Oracle: the order of the commands, by hand; the commands themselves are not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("libero", reason="scripts/setup_env.sh libero installs it")

from examples.Libero.demo_policy.training import train_demo_policy
from examples.Libero.demo_policy.training.train_demo_policy import DemoPolicyOptions, run, sentences


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be run; an evaluation leaves a report of 7 successes in 10 episodes."""
    made: list[tuple[str, ...]] = []

    def call(program: str, *arguments: str | Path, processes: int = 1) -> None:
        assert (processes == 2) == (program == "train")
        made.append((program, *map(str, arguments)))
        if program == "evaluate.py":
            output = Path(made[-1][made[-1].index("--output") + 1])
            output.mkdir()
            rows = [{"score": {"episodes": 10, "successes": 7, "rate": 70.0}}]
            (output / "report.json").write_text(json.dumps({"rows": rows}))

    monkeypatch.setattr(train_demo_policy, "call", call)
    return made


def argument(call: tuple[str, ...], flag: str) -> str:
    return call[call.index(flag) + 1]


def test_it_collects_trains_in_parts_and_looks_after_each(
    calls: list[tuple[str, ...]], tmp_path: Path
) -> None:
    run(DemoPolicyOptions(tmp_path, head_steps=10, steps=100, rounds=2))
    looks = ["train", "evaluate.py", "evaluate.py"]
    begun = ["collect_demonstrations.py"] * 4 + ["collect_scenes", "train_grounding", "train"]
    assert [call[0] for call in calls] == begun + 2 * looks
    trainings = [call for call in calls if call[0] == "train"]
    assert [argument(call, "--stop-after") for call in trainings] == ["10", "50", "100"]
    lines = [json.loads(line) for line in (tmp_path / "success.jsonl").read_text().splitlines()]
    score = {"episodes": 10, "successes": 7}
    assert lines[1] == {"step": 100, "libero_object_prompts, wide": score, "libero_object, recorded": score}
    assert (tmp_path / "untrained" / "config.json").is_file()


def test_each_training_starts_from_what_the_one_before_it_wrote(
    calls: list[tuple[str, ...]], tmp_path: Path
) -> None:
    run(DemoPolicyOptions(tmp_path, rounds=1))
    grounding = next(call for call in calls if call[0] == "train_grounding")
    head, everything = (call for call in calls if call[0] == "train")
    assert argument(head, "--checkpoint") == argument(grounding, "--output")
    assert argument(everything, "--checkpoint") == argument(head, "--output") + "/checkpoint"
    assert "vision" not in head
    assert "vision" in everything


def test_what_was_looked_at_already_is_not_done_again(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    for made in ("grounded", "head", "training"):
        (tmp_path / made).mkdir()
    (tmp_path / "success.jsonl").write_text('{"step": 50}\n')
    run(DemoPolicyOptions(tmp_path, steps=100, rounds=2))
    assert [call[0] for call in calls] == ["train", "evaluate.py", "evaluate.py"]


def test_demonstrations_and_looks_keep_off_the_states_of_evaluations(
    calls: list[tuple[str, ...]], tmp_path: Path
) -> None:
    run(DemoPolicyOptions(tmp_path, rounds=1))
    first = [int(argument(call, "--init-states").split("-")[0]) for call in calls[:3]]
    assert min(first) == 20
    looks = [argument(call, "--init-offset") for call in calls if call[0] == "evaluate.py"]
    assert looks == ["20", "20"]


def test_the_ten_objects_of_the_suite_are_asked_for_once_each() -> None:
    assert len(sentences()) == 10
    assert sentences()[0] == "pick up the alphabet soup and place it in the basket"
