"""The evaluation program as users run it: on the real simulator, on stubs, asked wrongly, interrupted."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from gr00t.eval.client import ExternalRobotInferenceClient, NoServerError
from gr00t.eval.libero.arms import parse_arm
from gr00t.eval.libero.episode import noise_seed
from gr00t.eval.libero.hosts import free_port
from gr00t.eval.libero.records import EpisodeRecord, read_records
from gr00t.eval.libero.simulators import SimulatorSetup
from gr00t.eval.libero.suites import LiberoError
from gr00t.eval.robot import RobotInferenceServer
from tests.libero.stubs import StubPolicy, StubSimulator
from tests.libero.test_hosts import children_of, gone
from tests.shell import REPO

PROGRAM = "scripts/evaluate.py"
RECIPES = REPO / "examples" / "Libero" / "recipes"


@pytest.fixture
def evaluation() -> Iterator[SimpleNamespace]:
    """The parts of the program, imported as it does."""
    sys.path.insert(0, str(REPO / "scripts"))
    yield SimpleNamespace(
        **{
            name: importlib.import_module(f"evaluation.{name}")
            for name in ("options", "servers", "preparation", "session")
        }
    )
    sys.path.remove(str(REPO / "scripts"))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with an empty cache and no hub."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LIBERO_ASSETS", "MUJOCO_GL")}
    return {
        **{name: value for name, value in kept.items() if not name.startswith("GR00T_")},
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPO),
    }


@pytest.fixture
def server() -> Iterator[tuple[StubPolicy, int]]:
    policy, port = StubPolicy(), free_port()
    served = RobotInferenceServer(policy, port=port)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    yield policy, port
    with ExternalRobotInferenceClient(port=port) as client:
        client.kill_server()
    thread.join(timeout=5)


@pytest.fixture
def stub_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stubs in place of LIBERO's simulators; tasks, initial states and assets are LIBERO's."""
    pytest.importorskip("libero")
    monkeypatch.setattr(SimulatorSetup, "make", lambda self, number: StubSimulator({(3, 1): 5}, {}))


def records_of(folder: Path) -> list[EpisodeRecord]:
    return sorted(read_records(folder / "episodes.jsonl"), key=lambda record: record.key)


@pytest.mark.libero
def test_a_short_run_leaves_records_videos_and_a_report(
    evaluation: SimpleNamespace,
    server: tuple[StubPolicy, int],
    environ: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy, port = server
    output = tmp_path / "out"
    summary = evaluation.session.run(
        evaluation.options.Options(
            suite="object",
            arms=f"served=localhost:{port},zero",
            tasks="3",
            trials=2,
            max_steps=12,
            seed=5,
            output=output,
            video="all",
            rendering="full",
            workers=2,
        ),
        environ,
    )
    served, zero = records_of(output)[:2], records_of(output)[2:]
    assert [(r.arm, r.task, r.init_state, r.success) for r in served] == [
        ("served", 3, 0, False),
        ("served", 3, 1, False),
    ]
    assert [(r.steps, r.queries, r.simulator_error) for r in served] == [(12, 2, None)] * 2
    assert [(r.arm, r.steps, r.queries, r.jerk) for r in zero] == [("zero", 12, 0, 0.0)] * 2
    first = served[0]
    assert first.language == "pick up the bbq sauce and place it in the basket"
    assert (first.assets, first.rendering, first.placement) == ("stand-ins", "full", "recorded")
    assert (first.gl_backend, first.quantized_layers) == ("osmesa", 116)
    assert first.versions["robosuite"] == "1.4.0"

    # Two queries per episode, seeded by what they are and not by when they were asked.
    seeds = [noise_seed(5, "libero_object", 3, state, query) for state in (0, 1) for query in (0, 1)]
    assert sorted(policy.seeds) == sorted(seeds)
    first_seen, second_seen = (policy.seen[policy.seeds.index(seed)] for seed in seeds[:2])
    assert first_seen["video.image"].shape == (1, 256, 256, 3)
    # Eight steps at a quarter of full speed in x: 10 cm at most, but the arm lags. Measured: 1.8 cm.
    assert 0.01 < second_seen["state.x"][0, 0] - first_seen["state.x"][0, 0] < 0.1
    # The fingers stand open at 4 cm to either side, commanded by the settling steps and then by 1 = open.
    np.testing.assert_allclose(second_seen["state.gripper"][0], [0.04, -0.04], atol=0.002)

    # A frame for every second step, upright: the arm (much contrast) at the top, bare floor at the bottom.
    reader = imageio_ffmpeg.read_frames(str(output / first.video))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(256, 256, 3) for frame in reader]
    assert (meta["size"], len(frames)) == ((256, 256), 6)
    arm, floor = frames[0][30:60, 100:160].astype(float), frames[0][220:250, 20:80].astype(float)
    assert arm.std() > 2 * floor.std()

    assert summary["complete"]
    assert summary["arms"]["served"] == {"episodes": 2, "successes": 0, "simulator_errors": 0}
    assert {path.name for path in output.iterdir()} >= {"report.md", "report.json", "plan.json"}
    assert "served" in capsys.readouterr().out
    facts = json.loads((output / "arms" / "served.json").read_text())
    assert (facts["kind"], facts["quantization"]["layers_quantized"]) == ("address", 116)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"suite": "90"}, "no assets for libero_90: LIBERO_ASSETS is not set; the hub is switched off"),
        ({"replan_steps": 0}, "replan-steps: expected a positive number, got 0"),
        ({"workers": -1}, "workers: expected a positive number, got -1"),
        ({"init_offset": 46}, "initial states 46 to 50 asked for, but libero_object task 0 has 50 initial"),
        (
            {"arms": "zero,replay,w4a8", "trials": 50},
            "initial state 49 of libero_object task 0 cannot be evaluated, replay, w4a8 needs it; "
            "evaluate at most 49 states from 0",
        ),
        ({"arms": "w4a9"}, r"unknown arm 'w4a9': did you mean w4a8\?"),
        ({"arms": "zero", "baseline": "bf16"}, "--baseline 'bf16': expected one of zero"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_made(
    evaluation: SimpleNamespace,
    environ: dict[str, str],
    tmp_path: Path,
    request_: dict[str, Any],
    message: str,
) -> None:
    pytest.importorskip("libero")
    options = {"suite": "object", "assets": "auto", "output": tmp_path / "out", **request_}
    with pytest.raises(LiberoError, match=message):
        evaluation.session.run(evaluation.options.Options(**options), environ)
    assert not (tmp_path / "out").exists()


def test_the_program_says_an_error_in_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("libero")
    result = subprocess.run(
        [sys.executable, str(REPO / PROGRAM), "--suite", "libero_objct", "--replan_steps", "4", "--headless"],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "error: unknown LIBERO suite 'libero_objct': did you mean libero_object?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stub_simulators")
def test_a_missing_server_is_reported_in_time(
    evaluation: SimpleNamespace, environ: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    options = evaluation.options.Options(
        suite="object", port=port, wait=0.3, output=tmp_path / "out", assets="stand-ins", rendering="full"
    )
    with pytest.raises(NoServerError, match=rf"no server at tcp://localhost:{port}: waited 0\.3 seconds"):
        evaluation.session.run(options, environ)
    assert not (tmp_path / "out" / "episodes.jsonl").exists()


def test_the_parent_process_stays_without_torch_and_mujoco(environ: dict[str, str], tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(REPO / 'scripts')!r}); import runpy; "
        f"runpy.run_path({str(REPO / PROGRAM)!r}); "
        "print(sorted({'torch', 'transformers', 'mujoco', 'robosuite', 'libero', 'ray'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.libero
@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_run_leaves_no_process_and_says_how_to_go_on(
    environ: dict[str, str], tmp_path: Path, sent: int, status: int
) -> None:
    flags = "--suite object --arms zero --tasks 0,1 --trials 40 --assets stand-ins --rendering full"
    flags += " --workers 2 --max-steps 8 --output out"
    run = subprocess.Popen(
        [sys.executable, str(REPO / PROGRAM), *flags.split()],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test runner in the background may ignore Ctrl-C; a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    episodes = tmp_path / "out" / "episodes.jsonl"
    deadline = time.monotonic() + 60
    while not episodes.exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    simulators = children_of(run.pid)
    assert len(simulators) == 2
    run.send_signal(sent)
    said = run.communicate(timeout=30)[0]
    assert run.returncode == status, said
    assert f"the same command with --output {tmp_path / 'out'} goes on" in said
    assert "Traceback" not in said
    assert all(gone(pid) for pid in simulators)
    assert 0 < len(read_records(episodes)) < 80


# what an arm has to be before it is evaluated

QUANTIZED = {"enabled": True, "layers_quantized": 116, "calibrating": False, "layers_informed": 116}


def described(evaluation: SimpleNamespace, arm: Any, **changes: Any) -> dict[str, Any]:
    config = evaluation.servers.check_recipe(arm)
    settings = {} if config is None else config.to_dict()
    return {"quantization": {**QUANTIZED, "config": settings, **changes}, "server": None}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bf16", {}, "bf16 is not to be quantized, but its server says that it is"),
        ("w4a8", {"enabled": False}, "w4a8 is to be quantized, but its server says that it is not"),
        ("w4a8", {"layers_quantized": 0}, "w4a8 is to be quantized, but its server says that it is not"),
        ("w4a8", {"calibrating": True}, "would calibrate on the episodes that are evaluated"),
        ("recommended", {"layers_informed": 0}, "found no calibrated packs"),
        ("rtn", {"config": {}}, "runs with GR00T_DUQUANT_ENABLE=None, not ''"),
    ],
)
def test_a_server_that_is_not_what_its_recipe_asks_for_is_refused(
    evaluation: SimpleNamespace, name: str, changes: dict[str, Any], message: str
) -> None:
    arm = parse_arm(name, RECIPES, {})
    config = evaluation.servers.check_recipe(arm)
    if name != "bf16":
        evaluation.preparation.check_report(arm, config, described(evaluation, arm))
    with pytest.raises(LiberoError, match=message):
        evaluation.preparation.check_report(arm, config, described(evaluation, arm, **changes))
    with pytest.raises(LiberoError, match="does not tell whether it is quantized"):
        evaluation.preparation.check_report(arm, config, {"quantization": None})


CALIBRATE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "calls").open("a").write("called ")
record = {"complete": True, "source": {"suite": "libero_object", "init_states_by_task": {"3": [49, STATE]}}}
(folder / "calibration.json").write_text(json.dumps(record))
"""


@pytest.mark.parametrize(("state", "refused"), [(48, False), (1, True)])
@pytest.mark.usefixtures("stub_simulators")
def test_a_static_arm_is_calibrated_once_and_never_on_what_is_evaluated(
    evaluation: SimpleNamespace,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: int,
    refused: bool,
) -> None:
    program = CALIBRATE.replace("STATE", str(state))

    def calibration(options: Any, suite: Any, recipe: Any, packdir: Path, gl: str) -> list[str]:
        packdir.mkdir(parents=True, exist_ok=True)
        return [sys.executable, "-c", program, str(packdir)]

    def server(options: Any, suite: Any, recipe: Any) -> list[str]:
        return [sys.executable, "-m", "tests.libero.stub_server", "{port}"]

    monkeypatch.setattr(evaluation.servers, "calibration_command", calibration)
    monkeypatch.setattr(evaluation.servers, "server_command", server)
    monkeypatch.setattr(evaluation.preparation, "check_report", lambda *arguments: None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    options = evaluation.options.Options(
        suite="object",
        arms="w4a8",
        model=str(tmp_path / "model"),
        tasks="3",
        trials=2,
        max_steps=12,
        output=tmp_path / "out",
        assets="stand-ins",
        rendering="full",
        workers=1,
    )
    calls = tmp_path / "out" / "packs" / "w4a8" / "calls"
    if refused:
        with pytest.raises(LiberoError, match="w4a8 was calibrated on initial state 1 of libero_object task"):
            evaluation.session.run(options, environ)
        assert not (tmp_path / "out" / "episodes.jsonl").exists()
        return
    evaluation.session.run(options, environ)
    assert [record.success for record in records_of(tmp_path / "out")] == [False, True]
    facts = json.loads((tmp_path / "out" / "arms" / "w4a8.json").read_text())
    assert facts["calibration"]["source"]["init_states_by_task"] == {"3": [49, 48]}
    assert len(facts["checkpoint"]["sha256"]) == 64
    # More trials go on with the same packs; another checkpoint is another arm.
    grown = evaluation.options.Options(**{**vars(options), "trials": 3})
    evaluation.session.run(grown, environ)
    assert calls.read_text() == "called "
    (tmp_path / "model" / "config.json").write_text("{ }")
    with pytest.raises(
        LiberoError, match=r"arm w4a8 is not what the episodes in .* were played with, checkpoint"
    ):
        evaluation.session.run(evaluation.options.Options(**{**vars(options), "trials": 4}), environ)


class Calibrating(StubPolicy):
    """Fixes its scales after 32 requests."""

    def quantization_report(self) -> dict[str, Any]:
        done = len(self.seen) >= 32
        return {**QUANTIZED, "calibrating": not done, "config": {"GR00T_DUQUANT_CALIB_STEPS": "32"}}


@pytest.mark.usefixtures("stub_simulators")
def test_a_server_that_calibrates_as_it_serves_is_driven_elsewhere_first(
    evaluation: SimpleNamespace, environ: dict[str, str], tmp_path: Path
) -> None:
    policy, port = Calibrating(), free_port()
    served = RobotInferenceServer(policy, port=port)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    try:
        evaluation.session.run(
            evaluation.options.Options(
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
    evaluation: SimpleNamespace, environ: dict[str, str], tmp_path: Path
) -> None:
    from gr00t.model.random_checkpoint import write_random_checkpoint

    write_random_checkpoint(tmp_path / "model")

    def actions(name: str, arms: str, **changes: Any) -> dict[str, list[str | None]]:
        options = evaluation.options.Options(
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
        evaluation.session.run(options, environ)
        found: dict[str, list[str | None]] = {}
        for record in records_of(tmp_path / name):
            found.setdefault(record.arm, []).append(record.actions_hash)
        return found

    alone = actions("alone", "a=rtn,b=rtn,c=bf16", workers=1)
    assert alone["a"] == alone["b"]
    assert len(set(alone["a"])) == 4, "every episode has noise of its own"
    assert alone["a"] != alone["c"]
    layers = json.loads((tmp_path / "alone" / "arms" / "a.json").read_text())["quantized_layers"]
    assert layers > 0
    assert actions("company", "a=rtn", workers=3, deterministic=True)["a"] == alone["a"]
