"""The evaluation program as users run it: against a real server with a stub policy, and with bad requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from examples.Libero.eval.run_libero_eval import Options, run
from gr00t.eval.client import ExternalRobotInferenceClient, NoServerError
from gr00t.eval.libero.episode import noise_seed
from gr00t.eval.robot import RobotInferenceServer
from tests.libero.stubs import StubPolicy

PROGRAM = "examples/Libero/eval/run_libero_eval.py"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with an empty cache and no hub."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LIBERO_ASSETS", "MUJOCO_GL")}
    return {**kept, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def run_program(
    repo: Path, environ: dict[str, str], cwd: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repo / PROGRAM), *flags],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(repo)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.libero
def test_a_short_run_leaves_records_a_video_and_a_summary(
    server: tuple[StubPolicy, int],
    environ: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy, port = server
    output = tmp_path / "out"
    options = Options(
        suite="object", port=port, tasks="3", trials=2, max_steps=12, replan_steps=8, seed=5, output=output
    )
    assert run(options, environ) == 0

    lines = [json.loads(line) for line in (output / "episodes.jsonl").read_text().splitlines()]
    assert [(line["task"], line["init_state"], line["success"]) for line in lines] == [
        (3, 0, False),
        (3, 1, False),
    ]
    assert [(line["steps"], line["queries"], line["simulator_error"]) for line in lines] == [
        (12, 2, None)
    ] * 2
    assert lines[0]["language"] == "pick up the bbq sauce and place it in the basket"
    assert (lines[0]["assets"], lines[0]["gl_backend"]) == ("stand-ins", "osmesa")
    assert lines[0]["quantized_layers"] == 116
    assert lines[0]["versions"]["robosuite"] == "1.4.0"

    # Two queries per episode, seeded by what they are and not by when they were asked.
    assert policy.seeds == [
        noise_seed(5, "libero_object", 3, state, query) for state in (0, 1) for query in (0, 1)
    ]
    first, second = policy.seen[0], policy.seen[1]
    assert first["video.image"].shape == (1, 256, 256, 3)
    # Eight steps at a quarter of full speed in x: 10 cm at most, but the arm lags. Measured: 1.8 cm.
    assert 0.01 < second["state.x"][0, 0] - first["state.x"][0, 0] < 0.1
    # The fingers stand open at 4 cm to either side, commanded by the settling steps and then by 1 = open.
    np.testing.assert_allclose(second["state.gripper"][0], [0.04, -0.04], atol=0.002)

    # A frame for every second step, upright: the arm (much contrast) at the top, bare floor at the bottom.
    reader = imageio_ffmpeg.read_frames(str(output / lines[0]["video"]))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(256, 256, 3) for frame in reader]
    assert (meta["size"], len(frames)) == ((256, 256), 6)
    arm, floor = frames[0][30:60, 100:160].astype(float), frames[0][220:250, 20:80].astype(float)
    assert arm.std() > 2 * floor.std()

    printed = capsys.readouterr().out.strip().splitlines()
    summary = json.loads(printed[-1])
    assert (summary["episodes"], summary["successes"], summary["complete"]) == (2, 0, True)
    assert printed[-2].split() == ["all", "0/2", "0.0", "%", "0"]
    assert json.loads((output / "summary.json").read_text()) == summary
    assert json.loads((output / "run.json").read_text())["quantization"]["layers_quantized"] == 116


def test_a_missing_server_is_reported_and_leaves_no_folder(environ: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("libero")
    port, output = free_port(), tmp_path / "out"
    with pytest.raises(NoServerError, match=rf"no server at tcp://localhost:{port}: waited 0\.3 seconds"):
        run(Options(suite="object", port=port, wait=0.3, output=output), environ)
    assert not output.exists()


@pytest.mark.libero
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--suite", "libero_objct"],
            "error: unknown LIBERO suite 'libero_objct': did you mean libero_object?",
        ),
        (
            ["--suite", "goal"],
            "error: no assets for libero_goal: LIBERO_ASSETS is not set; the hub is switched off",
        ),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_status_1(
    repo: Path, environ: dict[str, str], tmp_path: Path, flags: list[str], message: str
) -> None:
    result = run_program(repo, environ, tmp_path, *flags, "--headless")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.glob("runs/*")) == []


def test_dashes_and_underscores_are_the_same_flag(
    repo: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("libero")
    for flag in ("--replan_steps", "--replan-steps"):
        result = run_program(repo, environ, tmp_path, "--suite", "object", flag, "0")
        assert result.stderr.strip() == "error: replan-steps: expected a positive number, got 0"


def test_the_parent_process_stays_without_torch_and_mujoco(repo: Path, environ: dict[str, str]) -> None:
    pytest.importorskip("libero")
    program = f"import sys; sys.argv = ['x']; import runpy; runpy.run_path({PROGRAM!r}); "
    program += "print(sorted({'torch', 'transformers', 'mujoco', 'robosuite', 'libero'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, env=environ, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
