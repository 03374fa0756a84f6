"""The Chinese README says what the English documents say. Oracle: what no translation changes, from both."""

from __future__ import annotations

import re

import pytest

from gr00t.model.quantized_layers import DEFAULTS
from tests.shell import REPO

ENGLISH = (REPO / "README.md").read_text(encoding="utf-8")
CHINESE = (REPO / "README.zh.md").read_text(encoding="utf-8")
QUESTIONS = (REPO / "docs" / "QUANTIZATION.md").read_text(encoding="utf-8").partition("## Questions")[2]


def commands(text: str) -> list[str]:
    """The lines of all code blocks without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]


def figures(text: str) -> list[list[str]]:
    """The cells of all tables that are numbers, a row each."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    numbers = [
        [cell.strip() for cell in row if re.fullmatch(r"(?=.*\d)[-+\d./e to]+", cell.strip())] for row in rows
    ]
    return [row for row in numbers if re.search(r"\d", "".join(row))]


def places(text: str) -> set[str]:
    """Commits, dates and links."""
    return set(re.findall(r"\b[0-9a-f]{7}\b|20\d\d-\d\d-\d\d|\]\([\w/.-]+\)", text))


def test_the_commands_are_the_same() -> None:
    assert commands(CHINESE) == commands(ENGLISH)


def test_the_figures_are_the_same() -> None:
    before_variables = CHINESE.partition("## 变量")[0]
    assert figures(before_variables) == figures(ENGLISH)
    assert len(figures(ENGLISH)) >= 8


def test_the_measurements_are_the_same() -> None:
    assert places(CHINESE) - {"](README.md)"} == places(ENGLISH) - {"](README.zh.md)"}


def test_the_installed_commands_are_the_same() -> None:
    found = [re.findall(r"`gr00t-\w+`", text) for text in (ENGLISH, CHINESE)]
    assert found[0] == found[1]
    assert len(found[0]) == 11


def test_every_variable_has_a_row_with_its_default() -> None:
    rows = re.findall(r"^\| `(GR00T_DUQUANT_\w+)` \| (.*?) \|", CHINESE, re.MULTILINE)
    assert [name for name, _ in rows] == [name for name, _, _ in DEFAULTS.variables()]
    shown = dict(rows)
    for name, default, _ in DEFAULTS.variables():
        if "SERVING.md" not in shown[name]:
            assert shown[name] == (f"`{default}`" if default else "(unset)"), name


def test_every_question_is_answered() -> None:
    asked = re.findall(r"^\*\*.+?\*\*", QUESTIONS, re.MULTILINE)
    assert len(re.findall(r"^\*\*.+?\*\*", CHINESE.partition("## 常见问题")[2], re.MULTILINE)) == len(asked)
    answers = CHINESE.partition("## 常见问题")[2]
    assert set(re.findall(r"GR00T_DUQUANT_\w+=[\w.]+", answers)) >= {
        "GR00T_DUQUANT_WBITS_DEFAULT=4",
        "GR00T_DUQUANT_CALIB_STEPS=0",
        "GR00T_DUQUANT_PRECACHE_WEIGHTS=0",
        "GR00T_DUQUANT_PROFILE=1",
    }


@pytest.mark.parametrize("damage", ["76 / 100", "5f91cb0", "./run_tests.sh", "`0.15`"])
def test_a_difference_is_seen(damage: str) -> None:
    damaged = CHINESE.replace(damage, "x")
    rows = re.findall(r"^\| `GR00T_DUQUANT_\w+` \| (.*?) \|", damaged, re.MULTILINE)
    same = (
        commands(damaged) == commands(ENGLISH),
        figures(damaged.partition("## 变量")[0]) == figures(ENGLISH),
        {place for place in places(ENGLISH) if "](" not in place} <= places(damaged),
        "`0.15`" in rows,
    )
    assert not all(same)
