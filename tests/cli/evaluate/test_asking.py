"""Whether somebody is asked, and what counts as yes. Oracle: terminals put in place, answers written out."""

from __future__ import annotations

import io
import sys

import pytest

from gr00t.cli.evaluate import agrees_to_download
from gr00t.cli.running import is_attended


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "agreed"), [("\n", True), ("Yes\n", True), ("y\n", True), ("n\n", False), ("", False)]
)
def test_on_a_terminal_somebody_is_asked(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert agrees_to_download("357 MB", asks=True) is agreed
    assert capsys.readouterr().err == "357 MB\nDownload them? [Y/n] "


def test_where_nobody_is_it_is_told_and_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # nothing is read
    assert agrees_to_download("357 MB", asks=False)
    assert capsys.readouterr().err == "357 MB\n"


def test_who_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert is_attended({})
    assert not is_attended({"CI": "true"})
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not is_attended({})
