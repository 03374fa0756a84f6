"""Documents that name tests and commands: what they name exists."""

from __future__ import annotations

import re

import pytest

from tests.shell import REPO

TRAPS = (REPO / "docs" / "TRAPS.md").read_text(encoding="utf-8")


def test_every_test_that_keeps_us_out_of_a_trap_exists():
    cells = re.findall(r"`((?:\w+/)*test_\w+\.py)((?:::\w+)?)`((?:, `::\w+`)*)", TRAPS)
    assert len(cells) > 20
    for file, name, more in cells:
        source = (REPO / "tests" / file).read_text(encoding="utf-8")
        for test in re.findall(r"::(\w+)", name + more):
            assert f"def {test}(" in source, f"{file} has no {test}"


@pytest.mark.parametrize("name", ["QUALITY.md", "BENCHMARKS.md", "DEMO_RESULTS.md"])
def test_measurements_name_command_date_commit_and_device(name):
    text = (REPO / "docs" / name).read_text(encoding="utf-8")
    commands = re.findall(r"^    python (scripts/[\w/]+\.py)", text, re.MULTILINE)
    assert commands
    assert all((REPO / command).is_file() for command in commands)
    assert re.search(r"20\d\d-\d\d-\d\d", text)
    assert re.search(r"commit [0-9a-f]{7}", text)
    assert "EPYC" in text
