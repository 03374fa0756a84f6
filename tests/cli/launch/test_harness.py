"""Oracles: what each program is started with, in which order, and what a result file then says.

Programs that load a model or a simulator are replaced by what they leave behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.harnesses.results import ResultError
from gr00t.cli.harnesses.setup import HarnessRun
from gr00t.cli.launch import actions, harness
from gr00t.cli.launch.harness import HarnessGame, play
from gr00t.cli.launch.requests import QuantizedRequest, read_request
from gr00t.quantization.calibration.record import write_record

SCRIPT = "run_libero_quant_w4a8.sh"
STATIC = {"GR00T_DUQUANT_WBITS_DEFAULT": "4", "GR00T_DUQUANT_CALIB_STEPS": "32"}
RESULT = {
    "benchmark": "LIBEROBenchmark",
    "harness_version": "0.8.0",
    "mean_success": 0.5,
    "num_episodes_total": 6,
    "server_info": {"quantization": {"enabled": True, "layers_quantized": 40, "layers_informed": 40}},
}


class Stage:
    """Stands for all programs; `happened` says what was done, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happened: list[str] = []
        self.programs: list[Sequence[str]] = []
        self.environs: list[Mapping[str, str]] = []
        self.result: dict[str, Any] | None = RESULT
        self.statuses = {"calibrate": 0, "vla-eval": 0}
        self.raises: BaseException | None = None
        stage = self

        class Server:
            def __init__(self, program: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
                stage.programs.append(program)
                self.log = log

            def start(self) -> None:
                stage.happened.append("serve")

            def close(self) -> None:
                stage.happened.append("end")

        monkeypatch.setattr(harness, "ServerProcess", Server)
        monkeypatch.setattr(harness, "run_tied", self.run)
        monkeypatch.setattr(harness, "harness_run", self.setup)

    def setup(
        self, config: Path, words: Sequence[str], environ: Mapping[str, str], *, assets: str
    ) -> HarnessRun:
        self.config = json.loads(config.read_text())
        return HarnessRun(("vla-eval", *words), environ, assets)

    def run(self, program: Sequence[str], environ: Mapping[str, str], *, patience_s: float = 15.0) -> int:
        name = "calibrate" if "gr00t.cli.calibrate" in program else "vla-eval"
        self.happened.append(name)
        self.programs.append(program)
        self.environs.append(environ)
        if name == "vla-eval":
            if self.raises:
                raise self.raises
            if self.result is not None:
                folder = Path(self.config["output_dir"])
                (folder / "LIBEROBenchmark_aggregate.json").write_text(json.dumps(self.result))
        return self.statuses[name]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(monkeypatch)


def game(**changed: Any) -> HarnessGame:
    flags = {"model_flags": ["--data-config", "D"], "keeps_packs": True, **changed}
    return HarnessGame(suite="libero_object", model="a/model", **flags)


def test_the_policy_is_calibrated_served_played_and_told(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    status = play(game(entry={"max_tasks": 3}, port=5999, words=["--record-video"]), STATIC)
    assert (status, stage.happened) == (0, ["calibrate", "serve", "vla-eval", "end"])
    calibrated, served, played = stage.programs
    (folder,) = Path("runs").iterdir()
    packs = str(folder / "packs")
    assert " ".join(calibrated).startswith(
        "-m gr00t.cli.calibrate --model-path a/model --data-config D --libero"
    )
    assert [environ["GR00T_DUQUANT_PACKDIR"] for environ in stage.environs] == [packs, packs]
    assert "--wire n1_5:{port},vla-eval:5999" in " ".join(served)
    assert "--host 127.0.0.1" in " ".join(served)
    assert list(played) == ["vla-eval", "--record-video"]
    assert stage.config["server"]["url"] == "ws://127.0.0.1:5999"
    (entry,) = stage.config["benchmarks"]
    assert entry["params"] == {"suite": "libero_object", "seed": 7}
    assert entry["max_tasks"] == 3
    out = capsys.readouterr().out
    assert "vla-eval 0.8.0        success rate 50.0 % of 6 episodes\n" in out
    assert f"result file           {folder}/LIBEROBenchmark_aggregate.json\n" in out


@pytest.mark.parametrize("failure", ["status", "interrupted", "no result"])
def test_the_server_is_ended_whatever_happens(stage: Stage, failure: str) -> None:
    if failure == "status":
        stage.statuses["vla-eval"] = 3
        assert play(game(), STATIC) == 3
    elif failure == "interrupted":
        stage.raises = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            play(game(), STATIC)
    else:
        stage.result = None
        with pytest.raises(ResultError, match="found none"):
            play(game(), STATIC)
    assert stage.happened[-1] == "end"


def test_a_calibration_that_fails_is_the_end(stage: Stage) -> None:
    stage.statuses["calibrate"] = 1
    assert play(game(), STATIC) == 1
    assert stage.happened == ["calibrate"]


def test_packs_that_are_calibrated_are_used_as_they_are(stage: Stage, tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    environ = {**STATIC, "GR00T_DUQUANT_PACKDIR": str(packs)}
    write_record(packs, {"date": "2026-12-01"}, complete=False)
    play(game(keeps_packs=False), environ)
    write_record(packs, {"date": "2026-12-01"}, complete=True)
    play(game(keeps_packs=False), environ)
    assert stage.happened == ["calibrate", "serve", "vla-eval", "end", "serve", "vla-eval", "end"]
    with pytest.raises(UsageError, match="GR00T_DUQUANT_PACKDIR is empty"):
        play(game(keeps_packs=False), STATIC)


def test_what_has_no_static_scales_is_not_calibrated(stage: Stage) -> None:
    play(game(), {**STATIC, "GR00T_DUQUANT_CALIB_STEPS": "0"})
    assert stage.happened == ["serve", "vla-eval", "end"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (None, "does not say that the policy was quantized"),
        ({"enabled": False}, "does not say that the policy was quantized"),
        ({"enabled": True, "layers_quantized": 0}, "does not say that the policy was quantized"),
        ({"enabled": True, "layers_quantized": 40, "calibrating": True}, "calibrated on the episodes"),
    ],
)
def test_a_result_of_another_policy_is_an_error(stage: Stage, report: Any, message: str) -> None:
    stage.result = {**RESULT, "server_info": {"quantization": report}}
    with pytest.raises(ResultError, match=message):
        play(game(), STATIC)


def test_episodes_without_an_end_give_status_1(stage: Stage) -> None:
    stage.result = {**RESULT, "num_errors": 1}
    assert play(game(), STATIC) == 1


def test_the_script_takes_the_harness_and_its_options() -> None:
    asked = read_request(
        SCRIPT, "object", "a/model", "--harness", "vla-eval", "--seed", "7", "--", "--record-video"
    )
    assert isinstance(asked, QuantizedRequest)
    assert (asked.harness, asked.suite, asked.evaluates) == ("vla-eval", "libero_object", False)
    assert asked.evaluation == ["--record-video"]
    assert asked.groups == ("core", "libero", "websocket", "vla-eval")
    # No port has to be free that nobody asked for.
    assert asked.port is None
    assert read_request(SCRIPT, "demo", "--harness=vla-eval").groups == asked.groups


def test_the_demo_plays_libero_object_with_packs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[HarnessGame] = []
    monkeypatch.setattr(harness, "play", lambda game, environ: played.append(game) or 0)
    monkeypatch.setattr(actions, "run_tied", lambda program, environ: 0)
    words = ("demo", "--harness", "vla-eval", "--seed", "5", "--device", "cpu")
    assert actions.do(read_request(SCRIPT, *words), {}) == 0
    (asked,) = played
    assert (asked.suite, asked.model, asked.assets) == ("libero_object", actions.DEMO_POLICY, "stand-ins")
    assert asked.keeps_packs
    assert asked.entry == {"max_tasks": 3, "episodes_per_task": 2}
    # The calibration seeds its rollouts itself.
    assert list(asked.server_flags) == ["--seed", "5"]
    assert list(asked.model_flags)[-2:] == ["--device", "cpu"]
    assert "--seed" not in asked.model_flags


def test_a_checkpoint_is_played_with_liberos_own_assets_if_they_can_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: what the evaluation does: it says what would be downloaded, and asks who is there."""
    played: list[HarnessGame] = []
    agreed: list[bool] = []

    def set_up(suite: Any, *, choice: str, agree: Any, **others: Any) -> str:
        agreed.append(agree("357 MB to download"))
        return f"{suite.name} {choice}"

    monkeypatch.setattr(harness, "play", lambda game, environ: played.append(game) or 0)
    monkeypatch.setattr(actions, "run_tied", lambda program, environ: 0)
    monkeypatch.setattr("gr00t.libero.assets.location.set_up_assets", set_up)
    assert actions.do(read_request(SCRIPT, "goal", "a/model", "-y", "--harness", "vla-eval"), {}) == 0
    (asked,) = played
    assert (asked.suite, asked.model, asked.assets) == ("libero_goal", "a/model", "libero_goal auto")
    assert asked.model_flags[1] == "examples.Libero.custom_data_config:LiberoDataConfigMeanStd"
    assert (asked.keeps_packs, asked.entry, agreed) == (False, {"episodes_per_task": 10}, [True])
    assert "357 MB to download" in capsys.readouterr().err
