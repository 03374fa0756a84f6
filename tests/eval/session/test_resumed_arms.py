"""An arm that is played on has to be what it was. Oracle: the text of every refusal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gr00t.eval.arms.facts import ArmFacts, ServerDescription
from gr00t.eval.arms.hosts import ServerChangedError
from gr00t.eval.rollout.run_folder import PlayedEpisode, RunFolder
from gr00t.eval.session import identities, server_checks, servers, session
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.identity import digest
from tests.eval.rollout.stubs import records_of
from tests.eval.rollout.test_records import RECORD, altered
from tests.eval.rollout.test_run_folder import PLAN
from tests.eval.session.test_preparation import CALIBRATE, recipes_on_stubs

FACTS: dict[str, Any] = {
    "name": "w4a8",
    "kind": "recipe",
    "settings": {"ABITS": "8"},
    "checkpoint": {"model": "m", "folder": None, "sha256": "aa"},
    "denoising_steps": 8,
    "quantized_layers": 116,
    "quantization": {"layers": {"one": {}, "two": {}}, "packs_sha256": "a"},
    "server_info": {
        "dtype": "bfloat16",
        "identity": {"sources": "s", "model": "m", "data_config": "d", "device": "cpu"},
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    },
}


@pytest.fixture
def packdir(tmp_path: Path) -> Path:
    folder = tmp_path / "packs"
    folder.mkdir()
    for name in ("one.safetensors", "two.safetensors", "calibration.json", "of-another-model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def run(tmp_path: Path, packdir: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A folder with one episode of an arm, played with two sources."""
    files = {"gr00t/quantization/calibration/observers.py": "1", "gr00t/model/policy.py": "2"}
    monkeypatch.setattr(identities, "source_files", lambda: files)
    folder = RunFolder(tmp_path / "run", PLAN)
    identity = identities.arm_identity(changed(), packdir)
    folder.add(PlayedEpisode(altered(RECORD, init_state=0, identity=digest(identity))))
    folder.describe_arm(changed(identity=identity))
    identities.keep_sources(folder)
    return folder


def changed(**changes: Any) -> ArmFacts:
    return ArmFacts.model_validate({**FACTS, **changes})


def served(**changes: Any) -> ArmFacts:
    info = FACTS["server_info"]
    return changed(server_info={**info, "identity": {**info["identity"], **changes}})


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (changed(checkpoint={"sha256": "bb"}), "checkpoint: 'aa' there, 'bb' now"),
        (changed(settings={"ABITS": "4"}), "settings: {'ABITS': '8'} there, {'ABITS': '4'} now"),
        (changed(settings=None), "settings: {'ABITS': '8'} there, None now"),
        (changed(denoising_steps=4), "denoising_steps: 8 there, 4 now"),
        (changed(quantized_layers=0), "quantized_layers: 116 there, 0 now"),
        (
            changed(quantization={**FACTS["quantization"], "packs_sha256": "b"}),
            "packs_sha256: 'a' there, 'b' now",
        ),
        (served(data_config="e"), "server data_config: 'd' there, 'e' now"),
        (served(sources="t"), "server sources: 's' there, 't' now"),
        (served(device="cuda"), "server device: 'cpu' there, 'cuda' now"),
        (served(tokenizer="x"), "server tokenizer: None there, 'x' now"),
        (changed(server_info=None), "server data_config: 'd' there, None now"),
        (
            changed(server_info={**FACTS["server_info"], "versions": {"torch": "2.6.0"}}),
            "server numpy: '2.4.6' there, None now; server torch: '2.13.0' there, '2.6.0' now",
        ),
    ],
)
def test_what_differs_is_named_with_what_to_do(
    run: RunFolder, packdir: Path, now: ArmFacts, named: str
) -> None:
    check, identity = identities.check_unchanged, identities.arm_identity
    check(run, "w4a8", identity(changed(), packdir))
    with pytest.raises(ServerChangedError) as refusal:
        check(run, "w4a8", identity(now, packdir))
    text = str(refusal.value)
    assert text.startswith(f"arm w4a8 is not what the episodes in {run.path} were played with, ")
    assert named in text
    assert text.endswith("; name another --output")
    # Without its description the records still tell.
    (run.path / "arms" / "w4a8.json").unlink()
    with pytest.raises(ServerChangedError, match=r"arms/w4a8\.json is missing or has no identity"):
        check(run, "w4a8", identity(now, packdir))
    check(run, "w4a8", identity(changed(), packdir))


def test_several_differences_are_one_error(run: RunFolder, packdir: Path) -> None:
    now = changed(denoising_steps=4, checkpoint={"sha256": "bb"})
    with pytest.raises(
        ServerChangedError, match=r"checkpoint: .* now; denoising_steps: 8 there, 4 now; name"
    ):
        identities.check_unchanged(run, "w4a8", identities.arm_identity(now, packdir))


@pytest.mark.parametrize("name", ["one.safetensors", "calibration.json"])
def test_packs_that_were_calibrated_again_are_other_packs(run: RunFolder, packdir: Path, name: str) -> None:
    (packdir / "of-another-model.safetensors").write_text("changed")
    identities.check_unchanged(run, "w4a8", identities.arm_identity(changed(), packdir))
    (packdir / name).write_text("changed")
    with pytest.raises(ServerChangedError, match="played with, packs: '"):
        identities.check_unchanged(run, "w4a8", identities.arm_identity(changed(), packdir))


def test_changed_code_is_named_by_its_files(
    run: RunFolder, packdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identities.source_files()

    def edited() -> dict[str, str]:
        return {**before, "gr00t/quantization/calibration/observers.py": "edited", "gr00t/new.py": "new"}

    monkeypatch.setattr(identities, "source_files", edited)
    with pytest.raises(
        ServerChangedError,
        match=r"played with, sources: gr00t/new\.py, gr00t/quantization/calibration/observers\.py; name",
    ):
        identities.check_unchanged(run, "w4a8", identities.arm_identity(changed(), packdir))


def test_records_that_do_not_tell_or_do_not_agree_are_not_played_on(run: RunFolder, packdir: Path) -> None:
    now = identities.arm_identity(changed(), packdir)
    path = run.path / "arms" / "w4a8.json"
    path.write_text(json.dumps({**FACTS, "identity": {**now, "python": "3.0"}}))
    with pytest.raises(ServerChangedError, match=r"arms/w4a8\.json is not that of these episodes"):
        identities.check_unchanged(run, "w4a8", {**now, "denoising_steps": 4})
    run.add(PlayedEpisode(altered(RECORD, init_state=1, identity="0b")))
    with pytest.raises(ServerChangedError, match="these are of 2 different identities"):
        identities.check_unchanged(run, "w4a8", now)
    run.records = {RECORD.key: altered(RECORD, identity=None)}
    with pytest.raises(ServerChangedError, match="what it was: their records do not tell; name another"):
        identities.check_unchanged(run, "w4a8", now)


def test_an_arm_of_which_nothing_was_played_yet_may_become_another(tmp_path: Path) -> None:
    lost = {"success": None, "simulator_error": "GL went away", "retried": True, "identity": "0c"}
    with RunFolder(tmp_path / "lost", PLAN) as folder:
        folder.add(PlayedEpisode(altered(RECORD, init_state=0, **lost)))
        identities.check_unchanged(folder, "w4a8", {"sources": "repaired"})


@pytest.mark.parametrize(
    ("told", "warned"), [(None, 1), ({"dtype": "x"}, 1), ({"identity": {"model": "m"}}, 0)]
)
def test_a_server_that_could_change_unnoticed_is_told(
    caplog: pytest.LogCaptureFixture, told: Any, warned: int
) -> None:
    arm = SimpleNamespace(name="served")
    server_checks.say_what_it_is(arm, ServerDescription(server=told))
    assert sum("it could be another unnoticed" in message for message in caplog.messages) == warned


SERVER = """
import json, pathlib, sys
from gr00t.serving.robot import RobotInferenceServer
from tests.eval.rollout.stubs import StubPolicy
info = json.loads(pathlib.Path(sys.argv[2]).read_text())
RobotInferenceServer(StubPolicy(), port=int(sys.argv[1]), info=info).run()
"""


@pytest.mark.usefixtures("stub_simulators")
def test_a_resumed_evaluation_notices_what_its_server_has_become(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end: the data configuration keeps its name, the packs their folder."""

    def calibration(options: Any, suite: Any, recipe: Any, packdir: Path, gl: str) -> list[str]:
        packdir.mkdir(parents=True, exist_ok=True)
        return ["-c", CALIBRATE.replace("STATE", "48"), str(packdir)]

    def server(*arguments: Any) -> list[str]:
        return ["-c", SERVER, "{port}", str(told)]

    told = tmp_path / "told.json"
    told.write_text(json.dumps({"data_config": "module:Class", "identity": {"data_config": "0.95"}}))
    options = recipes_on_stubs(monkeypatch, tmp_path, arms="w4a8", trials=1)
    monkeypatch.setattr(servers, "server_program", server)
    monkeypatch.setattr(servers, "calibration_program", calibration)
    session.run(options, environ)
    grown = dataclasses.replace(options, trials=2)

    told.write_text(json.dumps({"data_config": "module:Class", "identity": {"data_config": "0.5"}}))
    said: list[str] = []
    with pytest.raises(
        LiberoError, match=r"played with, server data_config: '0\.95' there, '0\.5' now; name"
    ):
        session.run(grown, environ, said.append)
    # The verdicts so far, and not that the same command goes on: it would be refused again.
    assert len(said) == 1
    assert "goes on" not in said[0]
    told.write_text(json.dumps({"data_config": "module:Class", "identity": {"data_config": "0.95"}}))

    record = tmp_path / "out" / "packs" / "w4a8" / "calibration.json"
    before = record.read_text()
    record.write_text(before.replace("49", "47"))
    (tmp_path / "out" / "arms" / "w4a8.json").unlink()
    with pytest.raises(LiberoError, match=r"arms/w4a8\.json is missing"):
        session.run(grown, environ)
    record.write_text(before)
    session.run(grown, environ)
    played = records_of(tmp_path / "out")
    assert [(r.key.init_state, r.outcome.success) for r in played] == [(0, False), (1, True)]
    assert len({r.conditions.identity for r in played}) == 1
