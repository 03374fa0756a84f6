"""gr00t-inspect. Oracle: the two programs that it hands to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gr00t.cli import inspect
from gr00t.cli.inspection import checkpoint, dataset
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.data.lerobot.lerobot_sets import written


def run(program, capsys, monkeypatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gr00t-inspect", *map(str, words)])
    status = program.main()
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("folders")
    return {
        "checkpoint": write_random_checkpoint(folder / "checkpoint"),
        "data": written(folder / "set", 5, 7),
    }


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize(("kind", "program"), [("checkpoint", checkpoint), ("data", dataset)])
def test_a_folder_is_told_as_its_own_program_tells_it(
    folders, kind, program, flags, capsys, monkeypatch
) -> None:
    told = run(inspect, capsys, monkeypatch, folders[kind], *flags)
    assert told == run(program, capsys, monkeypatch, folders[kind], *flags)
    assert told[0] == 0
    assert str(folders[kind]) in (json.loads(told[1])["folder"] if flags else told[1])


def test_a_data_set_is_looked_at_with_a_configuration_and_drawn(
    folders, tmp_path, capsys, monkeypatch
) -> None:
    flags = ("--data-config", "so100", "--output", tmp_path / "pictures")
    status, out, _ = run(inspect, capsys, monkeypatch, folders["data"], *flags)
    assert status == 1
    assert "no such key" in out or "fault" in out
    assert (tmp_path / "pictures" / "statistics.png").is_file()


def test_a_data_set_without_its_descriptions_is_a_data_set(folders, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "meta").mkdir()
    status, out, _ = run(inspect, capsys, monkeypatch, tmp_path)
    assert status == 1
    assert "info.json" in out


@pytest.mark.parametrize(
    ("kind", "flags", "said"),
    [
        ("checkpoint", ("--output", "x"), "--output is for a data set, and {} has no folder meta"),
        ("checkpoint", ("--data-config", "so100"), "--data-config is for a data set, and {} has no folder"),
        ("data", ("--no-verify",), "--no-verify is for a quantized checkpoint, and {} is a data set"),
    ],
)
def test_a_flag_of_the_other_kind_is_refused(folders, kind, flags, said, capsys, monkeypatch) -> None:
    status, out, err = run(inspect, capsys, monkeypatch, folders[kind], *flags)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {said.format(folders[kind])}")


def test_a_folder_that_is_not_there_or_neither_is_told_in_one_line(tmp_path, capsys, monkeypatch) -> None:
    missing = tmp_path / "nothing"
    assert run(inspect, capsys, monkeypatch, missing) == (
        2,
        "",
        f"error: {missing}: no such folder; expected that of a data set or of a checkpoint\n",
    )
    status, _, err = run(inspect, capsys, monkeypatch, tmp_path)
    assert status == 1
    assert err.startswith("error: ")
    assert "it has no config.json" in err
    assert err.count("\n") == 1
