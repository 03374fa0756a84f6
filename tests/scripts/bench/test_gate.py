"""The gate beside what was played. Oracle: arms whose err and success are known."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace

import pytest

from tests.shell import REPO


@pytest.fixture(name="gate")
def gate_fixture(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPO / "scripts" / "bench"))
    import gate

    return gate


def drift(err, verdict):
    return {"err": err, "verdict": verdict, "interval": [err, err]}


def verdicts(**outcomes):
    """Arms that lost so many points, with an outcome each; the baseline has no comparison."""
    played = {
        name: SimpleNamespace(
            score=SimpleNamespace(successes=80 - lost),
            comparison=SimpleNamespace(
                pairs=100,
                difference=-lost / 100,
                interval=SimpleNamespace(low=-lost / 100 - 0.05, high=-lost / 100 + 0.05),
                judgement=SimpleNamespace(outcome=outcome),
            ),
        )
        for name, (lost, outcome) in outcomes.items()
    }
    played["bf16"] = SimpleNamespace(score=SimpleNamespace(successes=80), comparison=None)
    arms = [SimpleNamespace(name=name) for name in played]
    return SimpleNamespace(arms=arms, row=played.__getitem__)


KNOWN = {
    "bad": drift(0.3, "reject"),
    "good": drift(0.01, "pass"),
    "between": drift(0.1, "play episodes"),
    "never played": drift(0.2, "reject"),
    "bf16": drift(0.001, "pass"),
}


def test_arms_that_have_both_come_by_ascending_err(gate):
    played = verdicts(bad=(50, "inferior"), good=(0, "undecided"), between=(5, "undecided"))
    found = gate.rows(KNOWN, played)
    assert [(row["arm"], round(row["difference"]), round(row["low"])) for row in found] == [
        ("good", 0, -5),
        ("between", -5, -10),
        ("bad", -50, -55),
    ]
    assert "| `bad` | 0.3000 | reject | 30 / 100 | -50 | -55 to -45 | inferior |  |" in gate.table(found)


@pytest.mark.parametrize(
    ("verdict", "outcome", "expected"),
    [
        ("pass", "inferior", "missed"),
        ("reject", "non-inferior", "false alarm"),
        ("pass", "undecided", ""),
        ("reject", "inferior", ""),
        ("play episodes", "inferior", ""),
    ],
)
def test_the_gate_is_wrong_where_the_simulator_decides_otherwise(gate, verdict, outcome, expected):
    assert gate.wrong(verdict, outcome) == expected


@pytest.mark.parametrize(("bad", "expected"), [(50, -1.0), (-20, 0.5)])
def test_the_rank_correlation_is_that_of_err_and_difference(
    gate, tmp_path, monkeypatch, capsys, bad, expected
):
    """Three arms by err, 0, -5 and -50 points: the reverse. With +20 the order 2, 1, 3: 1 - 6 * 2 / 24."""
    file = tmp_path / "drift.log"
    file.write_text("a table\n" + json.dumps({"arms": KNOWN}) + "\n")
    monkeypatch.setattr(gate, "read_run", lambda folder: folder)
    played = verdicts(bad=(bad, "inferior"), good=(0, "undecided"), between=(5, "undecided"))
    monkeypatch.setattr(gate, "compare", lambda runs, baseline: played)
    gate.main(gate.Arguments(file, (tmp_path,)))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["spearman"] == pytest.approx(expected)


def test_two_arms_are_not_ranked(gate, tmp_path, monkeypatch):
    file = tmp_path / "drift.log"
    file.write_text(json.dumps({"arms": KNOWN}) + "\n")
    monkeypatch.setattr(gate, "read_run", lambda folder: folder)
    played = verdicts(bad=(50, "inferior"), good=(0, "undecided"))
    monkeypatch.setattr(gate, "compare", lambda runs, baseline: played)
    with pytest.raises(SystemExit, match="2 arms have both"):
        gate.main(gate.Arguments(file, (tmp_path,)))
