"""The evaluation program as users run it: on the real simulator, on stubs, asked wrongly, interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from gr00t.eval.arms.server_process import free_port
from gr00t.eval.rollout.episode import noise_seed
from gr00t.eval.rollout.records import read_records
from gr00t.eval.session import session
from gr00t.eval.session.options import EvaluationOptions
from gr00t.libero.assets import packages
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.client import ExternalRobotInferenceClient, NoServerError
from gr00t.serving.robot import RobotInferenceServer
from tests.eval.arms.test_hosts import children_of, gone
from tests.eval.rollout.stubs import StubPolicy, records_of
from tests.shell import REPO, heed_signals

PROGRAM = "scripts/evaluate.py"
RECIPES = REPO / "examples" / "Libero" / "recipes"


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


@pytest.mark.libero
def test_a_short_run_leaves_records_videos_and_a_report(
    server: tuple[StubPolicy, int],
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    policy, port = server
    output, told = tmp_path / "out", list[str]()
    summary = session.run(
        EvaluationOptions(
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
        # The user's choice, where the command line makes none, whatever else is installed.
        {**environ, "LIBERO_ASSETS": "stand-ins"},
        told.append,
    )
    served, zero = records_of(output)[:2], records_of(output)[2:]
    assert [(r.key.arm, r.key.task, r.key.init_state, r.outcome.success) for r in served] == [
        ("served", 3, 0, False),
        ("served", 3, 1, False),
    ]
    assert [(r.outcome.steps, r.outcome.queries, r.outcome.simulator_error) for r in served] == [
        (12, 2, None)
    ] * 2
    assert [(r.key.arm, r.outcome.steps, r.outcome.queries, r.outcome.jerk) for r in zero] == [
        ("zero", 12, 0, 0.0)
    ] * 2
    first = served[0]
    assert first.conditions.language == "pick up the bbq sauce and place it in the basket"
    assert (first.conditions.assets, first.conditions.rendering, first.conditions.placement) == (
        "stand-ins",
        "full",
        "recorded",
    )
    assert (first.conditions.gl_backend, first.conditions.quantized_layers) == ("osmesa", 116)
    assert first.conditions.versions["robosuite"] == "1.4.0"

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
    reader = imageio_ffmpeg.read_frames(str(output / first.outcome.video))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(256, 256, 3) for frame in reader]
    assert (meta["size"], len(frames)) == ((256, 256), 6)
    arm, floor = frames[0][30:60, 100:160].astype(float), frames[0][220:250, 20:80].astype(float)
    assert arm.std() > 2 * floor.std()

    assert summary["complete"]
    assert summary["arms"]["served"] == {"episodes": 2, "successes": 0, "simulator_errors": 0}
    assert {path.name for path in output.iterdir()} >= {"report.md", "report.json", "plan.json"}
    assert "served" in told[0]
    assert len(told) == 1
    facts = json.loads((output / "arms" / "served.json").read_text())
    assert (facts["kind"], facts["quantization"]["layers_quantized"]) == ("address", 116)


@pytest.mark.usefixtures("stub_simulators")
def test_several_seeds_are_several_episodes_of_each_state_and_may_be_added_to(
    server: tuple[StubPolicy, int], environ: dict[str, str], tmp_path: Path
) -> None:
    policy, port = server

    def run(**changes: Any) -> dict[str, Any]:
        options = {
            "suite": "object",
            "arms": f"served=localhost:{port},zero",
            "tasks": "3",
            "trials": 2,
            "max_steps": 16,
            "output": tmp_path / "out",
            "assets": "stand-ins",
            "rendering": "full",
            "workers": 2,
            **changes,
        }
        found: dict[str, Any] = session.run(EvaluationOptions(**options), environ)
        return found

    run(seed=4)
    before = records_of(tmp_path / "out")
    summary = run(seeds="4,7,9")
    records = records_of(tmp_path / "out")
    assert [(r.key.arm, r.key.init_state, r.key.seed) for r in records] == [
        (arm, state, seed) for arm in ("served", "zero") for state in (0, 1) for seed in (4, 7, 9)
    ]
    assert [record for record in records if record.key.seed == 4] == before, "not played again"
    assert summary["arms"]["served"] == {"episodes": 6, "successes": 3, "simulator_errors": 0}
    # The stub solves state 1 in its first chunk.
    expected = [(seed, 0, query) for seed in (4, 7, 9) for query in (0, 1)]
    expected += [(seed, 1, 0) for seed in (4, 7, 9)]
    wanted = [noise_seed(seed, "libero_object", 3, state, query) for seed, state, query in expected]
    assert sorted(policy.seeds) == sorted(wanted)
    assert len({record.outcome.thumbnail for record in records}) == 12
    assert all((tmp_path / "out" / str(record.outcome.thumbnail)).is_file() for record in records)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["score"]["seeds"] for row in report["rows"][:2]] == [3, 3]
    assert report["rows"][1]["comparison"]["pairs"] == 6
    with pytest.raises(LiberoError, match="seeds: 7, 9 there, but not asked for now"):
        run(seeds="4")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"seeds": "1-3"}, "seeds '1-3': expected numbers, such as 0,1,2"),
        ({"seeds": "0,1", "seed": 1}, "--seed 1 and --seeds 0,1: give one of them"),
        ({"suite": "90"}, "no assets for libero_90: LIBERO_ASSETS is not set; .*; the hub is switched off"),
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
    environ: dict[str, str],
    tmp_path: Path,
    request_: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("libero")
    monkeypatch.setattr(packages, "NAMESPACE", "gr00t_test_no_such_assets")
    options = {"suite": "object", "assets": "auto", "output": tmp_path / "out", **request_}
    with pytest.raises(LiberoError, match=message):
        session.run(EvaluationOptions(**options), environ)
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
def test_a_missing_server_is_reported_in_time(environ: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    options = EvaluationOptions(
        suite="object", port=port, wait=0.3, output=tmp_path / "out", assets="stand-ins", rendering="full"
    )
    with pytest.raises(NoServerError, match=rf"no server at tcp://localhost:{port}: waited 0\.3 seconds"):
        session.run(options, environ)
    assert not (tmp_path / "out" / "episodes.jsonl").exists()


def test_the_parent_process_stays_without_torch_and_mujoco(environ: dict[str, str], tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(REPO / 'scripts')!r}); import runpy; "
        f"runpy.run_path({str(REPO / PROGRAM)!r}); import gr00t.eval.session.session; "
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
        preexec_fn=heed_signals,
    )
    episodes = tmp_path / "out" / "episodes.jsonl"
    deadline = time.monotonic() + 180
    while not episodes.exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    simulators = children_of(run.pid)
    assert len(simulators) == 2
    # The first one decides; those that follow are no reason to end otherwise, or with a traceback.
    for number in [sent] + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 7:
        if run.poll() is None:
            run.send_signal(number)
        time.sleep(0.04)
    said = run.communicate(timeout=30)[0]
    assert run.returncode == status, said
    assert f"the same command with --output {tmp_path / 'out'} goes on" in said
    assert "Traceback" not in said
    assert all(gone(pid) for pid in simulators)
    assert 0 < len(read_records(episodes)) < 80
