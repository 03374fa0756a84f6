"""Oracle: what was written, and the text of each refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.interim.records import FILE, KEY, Look, LookLog, LookPlan, look_plan, read_looks
from gr00t.libero.tasks.suites import LiberoError

PLAN = LookPlan(
    rule="r", alpha=0.05, margin=3.0, baseline="bf16", order_seed=0, pairs=[100, 200], critical=[2.5, 1.8]
)


def look(arm: str = "w4a8", number: int = 1, **changes: Any) -> Look:
    values: dict[str, Any] = {
        "pairs": 100 * number,
        "lost": 0,
        "wins": 3,
        "losses": 4,
        "difference": -0.01,
        "low": -0.1,
        "high": 0.08,
        "decision": "goes on",
    }
    return Look(arm=arm, number=number, **{**values, **changes})


def test_what_was_decided_stands_when_a_run_goes_on(tmp_path: Path) -> None:
    log = LookLog(tmp_path, PLAN)
    assert log.next_number("w4a8") == 1
    log.add(look())
    log.add(look("w2a8", decision="inferior"))
    again = LookLog(tmp_path, PLAN)
    assert (again.next_number("w4a8"), again.next_number("w2a8")) == (2, None)
    again.add(look(number=2, decision="undecided"))
    assert read_looks(tmp_path, PLAN) == again.last
    assert again.last["w4a8"].pairs == 200


def test_a_line_that_a_kill_cut_off_is_looked_at_again(tmp_path: Path) -> None:
    LookLog(tmp_path, PLAN).add(look())
    with (tmp_path / FILE).open("a") as file:
        file.write('{"arm": "w4a8", "num')
    log = LookLog(tmp_path, PLAN)
    log.add(look(number=2))
    assert log.last["w4a8"].number == 2
    assert read_looks(tmp_path, PLAN)["w4a8"].number == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([look(number=2)], "looks.jsonl:1: look 2 at w4a8 does not follow what is before it"),
        ([look(decision="inferior"), look(number=2)], "looks.jsonl:2: look 2 at w4a8 does not follow"),
        (["{}"], "looks.jsonl:1: arm: field required"),
        (["no"], "looks.jsonl:1: not JSON"),
    ],
)
def test_a_file_that_no_run_wrote_is_refused(tmp_path: Path, lines: list[Any], said: str) -> None:
    texts = [line if isinstance(line, str) else line.model_dump_json() for line in lines]
    (tmp_path / FILE).write_text("".join(f"{text}\n" for text in texts))
    with pytest.raises(LiberoError, match=said):
        read_looks(tmp_path, PLAN)


def test_a_plan_with_other_numbers_of_looks_and_values_is_refused(tmp_path: Path) -> None:
    assert look_plan({}, tmp_path) is None
    assert look_plan({KEY: PLAN.told()}, tmp_path) == PLAN
    with pytest.raises(LiberoError, match=r"until_decided\.: expected increasing pairs and as many critical"):
        look_plan({KEY: {**PLAN.told(), "critical": [2.0]}}, tmp_path / "plan.json")
