"""When LIBERO's own assets are set up. Oracle: who was asked, and what the options and the log say."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.arms.arms import parse_arms
from gr00t.eval.session import looks
from gr00t.eval.session.options import EvaluationOptions
from gr00t.files.shipped import DEMO_POLICY, RECIPES
from gr00t.libero.assets.location import Assets
from gr00t.libero.tasks.suites import find_suite

SUITE = find_suite("object")
STANDINS, PACKAGES = Assets("stand-ins", Path("a"), "f00"), Assets("packages", Path("b"), "f01")


@pytest.fixture(autouse=True)
def set_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For which suites the set-up was called; it decides for stand-ins."""
    found: list[str] = []

    def set_up(suite: Any, **given: Any) -> str:
        assert given["agree"]("what it takes")
        found.append(f"{suite.name}, {given['choice']}")
        return "stand-ins"

    monkeypatch.setattr(looks, "set_up_assets", set_up)
    monkeypatch.setattr(looks, "libero_package", lambda: Path("libero"))
    return found


def settle(arms: str, agree: Any = lambda text: True, **options: Any) -> str:
    given = EvaluationOptions("object", **options)
    settled = looks.settle_assets(given, SUITE, parse_arms(arms, RECIPES, {}), {}, agree)
    return settled.assets


@pytest.mark.parametrize("arms", ["w4a8", "replay,bf16", "mine=localhost:5555", "zero,environment"])
def test_policies_of_ones_own_are_shown_what_they_were_trained_on(arms: str, set_ups: list[str]) -> None:
    assert settle(arms) == "stand-ins"
    assert set_ups == ["libero_object, auto"]


def test_the_demonstration_the_controls_and_a_run_that_goes_on_fetch_nothing(
    tmp_path: Path, set_ups: list[str]
) -> None:
    assert settle("bf16,w4a8", model=str(DEMO_POLICY)) == "auto"
    assert settle("zero,replay,expert,expert:0.1") == "auto"
    assert settle("w4a8", agree=None) == "auto"
    (tmp_path / "plan.json").write_text(json.dumps({}))
    assert settle("w4a8", output=tmp_path) == "auto"
    assert set_ups == []


@pytest.mark.parametrize(
    ("found", "options", "environ", "assets", "warned"),
    [
        (STANDINS, {}, {}, "stand-ins", "w4a8: the cameras see stand-ins, not LIBERO's own looks. "),
        (STANDINS, {"model": str(DEMO_POLICY)}, {}, "stand-ins", ""),
        (STANDINS, {"assets": "stand-ins"}, {}, "stand-ins", ""),
        (STANDINS, {}, {"LIBERO_ASSETS": "stand-ins"}, "stand-ins", ""),
        (PACKAGES, {}, {}, "auto", ""),
    ],
)
def test_stand_ins_that_nobody_asked_for_are_told_and_kept_for_calibrations(
    found: Assets,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    assets: str,
    warned: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arms = parse_arms("w4a8,replay", RECIPES, {})
    with caplog.at_level(logging.WARNING, logger="gr00t"):
        kept = looks.keep_to(found, EvaluationOptions("object", **options), arms, environ)
    assert kept.assets == assets
    assert [message[: len(warned)] for message in caplog.messages] == ([warned] if warned else [])
