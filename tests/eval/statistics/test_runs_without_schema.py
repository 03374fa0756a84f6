"""Runs of a time before records told their schema. Oracle: such a folder and its report, by commit e55cd83.

It was written by scripts/evaluate.py --suite libero_object_prompts --model examples/Libero/demo_policy
--data-config examples.Libero.demo_data_config:DemoDataConfig --arms bf16,rtn --tasks 0 --trials 2
--placement wide --assets stand-ins --workers 1 --deterministic --max-steps 60
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.rollout.records import SCHEMA, EpisodeRecord, read_records
from gr00t.eval.rollout.run_folder import PlayedEpisode, RunFolder
from gr00t.eval.statistics import compare, read_run
from tests.eval.rollout.test_records import altered
from tests.shell import REPO

BEFORE = REPO / "tests" / "golden" / "run_without_schema"


def flat(value: Any, place: str = "") -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers with a fraction, and everything else, of plain data, by their places."""
    numbers: dict[str, float] = {}
    others: dict[str, Any] = {}
    if isinstance(value, dict | list) and value:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            more, rest = flat(inner, f"{place}/{name}")
            numbers |= more
            others |= rest
    elif isinstance(value, float):
        numbers[place] = value
    else:
        others[place] = value
    return numbers, others


def test_it_is_compared_as_it_was_then() -> None:
    verdicts = compare([read_run(BEFORE)])
    found, before = (
        json.loads(json.dumps(verdicts.to_dict())),
        json.loads((BEFORE / "report.json").read_text()),
    )
    # The one measure of smoothness that was recorded then was told as a ratio alone.
    compared = [row["comparison"] for row in found["rows"] if row["comparison"]]
    measured = [(each.pop("smoothness"), each["jerk_ratio"]) for each in compared]
    assert [[(m["measure"], m["ratio"]) for m in told] for told, _ in measured] == [
        *([("jerk", pytest.approx(ratio))] for _, ratio in measured[:2]),
        [],
    ]
    numbers, texts = flat(found)
    # No suite was perturbed then, and no run was looked at on its way.
    since = {"/drops": [], "/looks": []}
    since |= {f"/rows/{row}/comparison/judgement/by_looks": "" for row in (1, 3, 5)}
    assert texts == {**flat(before)[1], **since}
    # The same digits on an AMD EPYC; the last ones of a root or a logarithm are the processor's.
    assert numbers == pytest.approx(flat(before)[0], rel=1e-9, abs=1e-12)


def test_every_field_of_its_lines_and_arms_is_read() -> None:
    lines = (BEFORE / "episodes.jsonl").read_text().splitlines()
    assert len(lines) == 4
    since = dict.fromkeys(("gripper_switches", "seam_jump", "actions"))
    assert [EpisodeRecord.from_json(line).to_line() for line in lines] == [
        {**json.loads(line), **since} for line in lines
    ]
    for name, facts in read_run(BEFORE).arms.items():
        assert facts.told() == json.loads((BEFORE / "arms" / f"{name}.json").read_text())


def test_it_is_gone_on_with_and_its_lines_stay(tmp_path: Path) -> None:
    shutil.copytree(BEFORE, tmp_path / "run")
    episodes = tmp_path / "run" / "episodes.jsonl"
    before = episodes.read_bytes()
    plan = json.loads((BEFORE / "plan.json").read_text())
    with RunFolder(tmp_path / "run", {**plan, "init_states": [0, 1, 2]}) as folder:
        assert len(folder.records) == 4
        last = list(folder.records.values())[-1]
        assert folder.has_played(last.key)
        folder.add(PlayedEpisode(altered(last, init_state=2, thumbnail=None)))
    assert episodes.read_bytes().startswith(before)
    assert json.loads(episodes.read_bytes()[len(before) :])["schema"] == SCHEMA
    assert [record.key.init_state for record in read_records(episodes)] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("schema", [0, 4, "2", None])
def test_a_schema_that_is_none_is_named(tmp_path: Path, schema: object) -> None:
    line = {**json.loads((BEFORE / "episodes.jsonl").read_text().splitlines()[0]), "schema": schema}
    (tmp_path / "episodes.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=rf"episodes\.jsonl:1: schema {schema!r} is none that this version"):
        read_records(tmp_path / "episodes.jsonl")
