"""What an arm has to be before it is evaluated: quantized as it says, calibrated elsewhere, unchanged."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.arms.arms import parse_arm
from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.recipes import load_recipe
from gr00t.eval.arms.server_process import free_port
from gr00t.eval.rollout.agents import PolicyAgent
from gr00t.eval.rollout.episode import noise_seed
from gr00t.eval.session import preparation, server_checks, servers, session
from gr00t.eval.session.options import EvaluationOptions
from gr00t.libero.tasks.suites import LiberoError, find_suite
from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.robot import RobotInferenceServer
from tests.eval.rollout.stubs import StubPolicy, records_of
from tests.shell import REPO

RECIPES = REPO / "examples" / "Libero" / "recipes"

QUANTIZED = {"enabled": True, "layers_quantized": 116, "calibrating": False, "layers_informed": 116}


def described(arm: Any, **changes: Any) -> ServerDescription:
    config = servers.check_recipe(arm)
    settings = {} if config is None else config.to_dict()
    return ServerDescription.model_validate({"quantization": {**QUANTIZED, "config": settings, **changes}})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bf16", {}, "bf16 is not to be quantized, but its server says that it is"),
        ("w4a8", {"enabled": False}, "w4a8 is to be quantized, but its server says that it is not"),
        ("w4a8", {"layers_quantized": 0}, "w4a8 is to be quantized, but its server says that it is not"),
        ("w4a8", {"calibrating": True}, "would calibrate on the episodes that are evaluated"),
        ("recommended", {"layers_informed": 0}, "found no calibrated packs"),
        (
            "recommended",
            {"layers_informed": 115},
            "115 of its server's 116 layers are calibrated; the other packs are missing or damaged",
        ),
        ("rtn", {"config": {}}, "runs with GR00T_DUQUANT_ENABLE=None, not ''"),
    ],
)
def test_a_server_that_is_not_what_its_recipe_asks_for_is_refused(
    name: str, changes: dict[str, Any], message: str
) -> None:
    arm = parse_arm(name, RECIPES, {})
    config = servers.check_recipe(arm)
    if name != "bf16":
        server_checks.check_report(arm, config, described(arm))
    with pytest.raises(LiberoError, match=message):
        server_checks.check_report(arm, config, described(arm, **changes))
    with pytest.raises(LiberoError, match="does not tell whether it is quantized"):
        server_checks.check_report(arm, config, ServerDescription())


CALIBRATE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "calls").open("a").write("called ")
record = {"complete": True, "source": {"suite": "libero_object", "init_states_by_task": {"3": [49, STATE]}}}
(folder / "calibration.json").write_text(json.dumps(record))
"""


def recipes_on_stubs(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> Any:
    """The options of a run of recipes whose servers are stubs and are not looked at."""

    def server(options: Any, suite: Any, recipe: Any) -> list[str]:
        return ["-m", "tests.eval.arms.stub_server", "{port}"]

    monkeypatch.setattr(servers, "server_program", server)
    monkeypatch.setattr(preparation, "check_report", lambda *arguments: None)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    return EvaluationOptions(
        suite="object",
        model=str(folder / "model"),
        tasks="3",
        max_steps=12,
        output=folder / "out",
        assets="stand-ins",
        rendering="full",
        workers=1,
        **changes,
    )


@pytest.mark.parametrize(("state", "refused"), [(48, False), (1, True)])
@pytest.mark.usefixtures("stub_simulators")
def test_a_static_arm_is_calibrated_once_and_never_on_what_is_evaluated(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: int,
    refused: bool,
) -> None:
    program = CALIBRATE.replace("STATE", str(state))

    def calibration(options: Any, suite: Any, recipe: Any, packdir: Path, gl: str) -> list[str]:
        packdir.mkdir(parents=True, exist_ok=True)
        return ["-c", program, str(packdir)]

    options = recipes_on_stubs(monkeypatch, tmp_path, arms="w4a8", trials=2)
    monkeypatch.setattr(servers, "calibration_program", calibration)
    calls = tmp_path / "out" / "packs" / "w4a8" / "calls"
    if refused:
        with pytest.raises(LiberoError, match="w4a8 was calibrated on initial state 1 of libero_object task"):
            session.run(options, environ)
        assert not (tmp_path / "out" / "episodes.jsonl").exists()
        return
    session.run(options, environ)
    assert [record.outcome.success for record in records_of(tmp_path / "out")] == [False, True]
    facts = json.loads((tmp_path / "out" / "arms" / "w4a8.json").read_text())
    assert facts["calibration"]["source"]["init_states_by_task"] == {"3": [49, 48]}
    assert len(facts["checkpoint"]["sha256"]) == 64
    # More trials go on with the same packs; another checkpoint is another arm.
    grown = EvaluationOptions(**{**vars(options), "trials": 3})
    session.run(grown, environ)
    assert calls.read_text() == "called "
    (tmp_path / "model" / "config.json").write_text("{ }")
    with pytest.raises(
        LiberoError, match=r"arm w4a8 is not what the episodes in .* were played with, checkpoint"
    ):
        session.run(EvaluationOptions(**{**vars(options), "trials": 4}), environ)


@pytest.mark.usefixtures("stub_simulators")
def test_an_arm_with_grey_images_is_shown_grey_and_says_so(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Watched(PolicyAgent):
        def play(self, *arguments: Any) -> Any:
            shown.append(type(self._asked).__name__)
            return super().play(*arguments)

    options = recipes_on_stubs(monkeypatch, tmp_path, arms="bf16,grey", trials=1)
    monkeypatch.setattr(preparation, "PolicyAgent", Watched)
    session.run(options, environ)
    assert shown == ["ExternalRobotInferenceClient", "GreyPolicy"]
    arms = [json.loads((tmp_path / "out" / "arms" / f"{name}.json").read_text()) for name in ("bf16", "grey")]
    assert [arm["images"] for arm in arms] == ["camera", "grey"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(arm["name"], arm["is_control"]) for arm in report["arms"]] == [("bf16", False), ("grey", True)]


class Calibrating(StubPolicy):
    """Fixes its scales after 32 requests."""

    def quantization_report(self) -> dict[str, Any]:
        done = len(self.seen) >= 32
        return {**QUANTIZED, "calibrating": not done, "config": {"GR00T_DUQUANT_CALIB_STEPS": "32"}}


@pytest.mark.usefixtures("stub_simulators")
def test_a_server_that_calibrates_as_it_serves_is_driven_elsewhere_first(
    environ: dict[str, str], tmp_path: Path
) -> None:
    policy, port = Calibrating(), free_port()
    served = RobotInferenceServer(policy, port=port)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    try:
        session.run(
            EvaluationOptions(
                suite="object",
                arms=f"served=localhost:{port}",
                tasks="3",
                trials=2,
                max_steps=16,
                output=tmp_path / "out",
                assets="stand-ins",
                rendering="full",
                workers=1,
            ),
            environ,
        )
    finally:
        with ExternalRobotInferenceClient(port=port) as client:
            client.kill_server()
        thread.join(timeout=5)
    facts = json.loads((tmp_path / "out" / "arms" / "served.json").read_text())
    used = facts["calibration"]["source"]["init_states_by_task"]
    # The stub has four initial states: the second half, from the end, of all ten tasks.
    assert used == {str(task): [3, 2] for task in range(10)} | {"2": [3, 2]}
    evaluated = [noise_seed(0, "libero_object", 3, state, query) for state in (0, 1) for query in (0, 1)]
    first = min(policy.seeds.index(seed) for seed in evaluated if seed in policy.seeds)
    assert first >= 32
    assert len(records_of(tmp_path / "out")) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("stub_simulators")
def test_the_same_arm_does_the_same_to_the_last_bit_alone_and_with_company(
    environ: dict[str, str], tmp_path: Path
) -> None:
    from gr00t.testing.random_checkpoint import write_random_checkpoint

    write_random_checkpoint(tmp_path / "model")

    def actions(name: str, arms: str, **changes: Any) -> dict[str, list[str | None]]:
        options = EvaluationOptions(
            suite="object",
            arms=arms,
            model=str(tmp_path / "model"),
            tasks="0,3",
            trials=2,
            max_steps=24,
            denoising_steps=2,
            output=tmp_path / name,
            assets="stand-ins",
            rendering="full",
            device="cpu",
            **changes,
        )
        session.run(options, environ)
        found: dict[str, list[str | None]] = {}
        for record in records_of(tmp_path / name):
            found.setdefault(record.key.arm, []).append(record.outcome.actions_hash)
        return found

    alone = actions("alone", "a=rtn,b=rtn,c=bf16", workers=1)
    assert alone["a"] == alone["b"]
    assert len(set(alone["a"])) == 4, "every episode has noise of its own"
    assert alone["a"] != alone["c"]
    layers = json.loads((tmp_path / "alone" / "arms" / "a.json").read_text())["quantized_layers"]
    assert layers > 0
    assert actions("company", "a=rtn", workers=3, deterministic=True)["a"] == alone["a"]


def test_a_recipe_with_a_precision_of_its_own_is_served_in_it() -> None:
    options, suite = EvaluationOptions(suite="object", model="m"), find_suite("object")
    told = {}
    for name in ("bf16", "bf16-again"):
        program = servers.server_program(options, suite, load_recipe(RECIPES / f"{name}.toml"))
        told[name] = program[program.index("--dtype") + 1]
    assert told == {"bf16": "bfloat16", "bf16-again": "float32"}
