"""Oracles: the customer's document (suites, models, settings), and programs put in place of the real ones.

Where a script would load a model, a program of a few lines takes its place, so that what is tested is the
script: which status it ends with, what it leaves running, what it says.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shell import REPO, heed_signals, shell

SCRIPTS = sorted([*REPO.glob("*.sh"), *REPO.glob("scripts/*.sh"), REPO / ".ci" / "run"])
SUITES = "libero_spatial libero_object libero_goal libero_10 libero_90"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script: Path) -> None:
    run = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert script.name == "common.sh" or os.access(script, os.X_OK)


def test_scripts_pass_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; apt-get install -y shellcheck")
    run = subprocess.run(
        ["shellcheck", "-x", *map(str, SCRIPTS)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert run.stdout == ""


@pytest.mark.parametrize(
    "script", ["run_inference_server.sh", "run_libero_eval.sh", "run_libero_quant_w4a8.sh"]
)
def test_unknown_suite_is_refused_with_the_nearest_name(script: str) -> None:
    run = shell(f"./{script} libero_spatail")
    assert run.returncode == 1
    assert run.stderr == (
        f"error: unknown suite 'libero_spatail'; did you mean libero_spatial?\n  suites: {SUITES}\n"
    )


# one command: serve, or evaluate

SERVER = """
import pathlib, sys, zmq, msgpack
if pathlib.Path("server_fails").exists():
    sys.exit("no weights here")
pathlib.Path("server_arguments").write_text(" ".join(sys.argv[1:]))
if pathlib.Path("server_stops").exists():
    sys.exit()
socket = zmq.Context().socket(zmq.REP)
socket.bind("tcp://127.0.0.1:" + sys.argv[sys.argv.index("--port") + 1])
pathlib.Path("server_pid").write_text(str(__import__("os").getpid()))
while True:
    socket.recv()
    socket.send(msgpack.packb({"status": "ok", "message": "Server is running"}))
"""


EVALUATION = """
import os, sys
print("evaluated", *sys.argv[1:])
print("scales from", os.environ["GR00T_DUQUANT_CALIB_STEPS"], "requests")
sys.exit(3)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository with a server, an evaluation and a set-up of a few lines each."""
    for name in ("run_libero_quant_w4a8.sh", "test_duquant_dryrun.sh"):
        shutil.copy(REPO / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPO / "scripts" / "common.sh", tmp_path / "scripts")
    (tmp_path / "gr00t").symlink_to(REPO / "gr00t")
    programs = {
        "scripts/setup_env.sh": "#!/bin/bash\n",
        "scripts/scan_linear_layers.py": "print('listed')\n",
        "scripts/inference_service.py": SERVER,
        "scripts/evaluate.py": EVALUATION,
        ".venv/bin/python": f'#!/bin/bash\nPYTHONPATH=. exec {sys.executable} "$@"\n',
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_evaluation_gets_the_model_and_the_settings_and_gives_the_status(checkout: Path) -> None:
    run = shell("./run_libero_quant_w4a8.sh goal a/model --eval --seed 7 -- --tasks 2", cwd=checkout)
    assert run.returncode == 3, run.stderr
    assert "listed" in run.stdout
    assert (
        "evaluated --suite libero_goal --model a/model --video all --seed 7 --arms w4a8=environment --tasks 2"
        "\nscales from 32 requests\n"
    ) in run.stdout
    # It starts its server itself.
    assert not (checkout / "server_arguments").exists()


def test_the_server_gets_the_options_of_its_suite(checkout: Path, port: int) -> None:
    (checkout / "server_stops").touch()
    shell(f"./run_libero_quant_w4a8.sh goal -y --port {port} --seed 7", cwd=checkout)
    arguments = (checkout / "server_arguments").read_text()
    assert "LiberoDataConfigMeanStd" in arguments
    assert arguments.endswith("--seed 7")


def test_a_server_that_dies_ends_the_script_with_its_last_words(checkout: Path, port: int) -> None:
    (checkout / "server_fails").touch()
    run = shell(f"./run_libero_quant_w4a8.sh object -y --port {port}", cwd=checkout)
    assert run.returncode == 1
    assert "error: the server ended with status 1 before it was ready" in run.stderr
    assert "no weights here" in run.stderr


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_script_leaves_no_server_behind(checkout: Path, port: int, sent: int, status: int) -> None:
    process = subprocess.Popen(
        ["./run_libero_quant_w4a8.sh", "object", "-y", "--port", str(port)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A test runner in the background may ignore Ctrl-C; a child would inherit that.
        preexec_fn=heed_signals,
    )
    deadline = time.monotonic() + 30
    output = []
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if "Stop it with Ctrl-C" in line or time.monotonic() > deadline:
            break
    server = int((checkout / "server_pid").read_text())
    assert is_running(server), "".join(output)
    os.kill(process.pid, sent)
    assert process.wait(timeout=20) == status
    process.stdout.close()
    assert not is_running(server)


def test_a_port_in_use_is_told_before_anything_starts(checkout: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        run = shell(f"./run_libero_quant_w4a8.sh object -y --port {number}", cwd=checkout)
    assert run.returncode == 1
    assert f"error: port {number} is in use by another program" in run.stderr
    assert not (checkout / "server_arguments").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--port x", "--port x: expected a number from 1 to 65535"),
        ("--port 70000", "--port 70000: expected a number from 1 to 65535"),
        ("--port", "--port needs a number"),
        ("goal --tokenizer", "--tokenizer needs a value"),
        ("--evaluate", "unknown option '--evaluate'"),
        ("goal a b", "one suite and one model at most, got also 'b'"),
        ("demo some/model", "demo has its own model; to serve some/model name a suite"),
        ("demo --harness vla-evl", "--harness vla-evl: did you mean vla-eval?"),
        ("demo --harness", "--harness needs a name"),
        ("goal --eval --harness vla-eval", "--eval plays in this project's runner, --harness in vla-eval"),
        ("goal -- --tasks 1", "options after -- are for the evaluation: add --eval"),
    ],
)
def test_bad_arguments_are_refused(checkout: Path, arguments: str, message: str) -> None:
    run = shell(f"./run_libero_quant_w4a8.sh {arguments}", cwd=checkout)
    assert run.returncode == 1
    assert message in run.stderr


@pytest.mark.parametrize(
    "script", ["run_inference_server.sh", "run_libero_quant_w4a8.sh", "test_duquant_dryrun.sh"]
)
def test_help_shows_the_usage_and_no_code(script: str) -> None:
    run = shell(f"./{script} --help")
    assert run.returncode == 0
    assert f"./{script}" in run.stdout
    assert "set -euo" not in run.stdout


# with the real environment


def test_dry_run_lists_the_116_layers_of_the_full_size_model() -> None:
    if shell("scripts/setup_env.sh --check core").returncode:
        pytest.skip("no .venv here; run ./run_tests.sh, which makes it")
    run = shell("./test_duquant_dryrun.sh", GR00T_DUQUANT_WBITS="action_head.layers.0.mlp.up_proj:6")
    assert run.returncode == 0, run.stderr
    lines = (run.stdout + run.stderr).splitlines()
    listed_layers = [line for line in lines if line.startswith("[GR00T-DUQUANT][DRYRUN] ")]
    assert len(listed_layers) == 116
    assert "[GR00T-DUQUANT] Dry-run total layers listed: 116" in lines
    assert [line.split()[1] for line in listed_layers if " W6 A8 " in line] == [
        "action_head.layers.0.mlp.up_proj:"
    ]
