"""How the scripts end what they started, and where two of them put their results. Oracle: what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.eval.arms.test_hosts import children_of, gone
from tests.shell import heed_signals, shell
from tests.test_scripts import checkout, port

__all__ = ["checkout", "port"]

# An evaluation that is still at work, and one that does not end when it is asked to.
AT_WORK = "import pathlib, time\npathlib.Path('up').touch()\ntime.sleep(60)\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + AT_WORK


def start(checkout: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["./run_libero_quant_w4a8.sh", *arguments],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_signals,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)


@pytest.mark.parametrize("program", [AT_WORK, STUBBORN], ids=["polite", "stubborn"])
def test_the_evaluation_of_a_demo_ends_with_the_script(checkout: Path, program: str) -> None:
    (checkout / "scripts" / "evaluate.py").write_text(program)
    script = start(checkout, "demo")
    wait_for(checkout / "up")
    below = children_of(script.pid)
    assert below
    script.kill()
    script.wait()
    assert [pid for pid in below if not gone(pid, 5.0)] == []


@pytest.mark.parametrize("ready", [True, False])
def test_the_server_and_who_waits_for_it_end_with_the_script(checkout: Path, port: int, ready: bool) -> None:
    if not ready:
        (checkout / "scripts" / "inference_service.py").write_text(
            "import os, pathlib, time\npathlib.Path('server_pid').write_text(str(os.getpid()))\n"
            "time.sleep(60)"
        )
    script = start(checkout, "object", "-y", "--port", str(port))
    wait_for(checkout / "server_pid")
    time.sleep(0.5)
    below = children_of(script.pid)
    assert below
    script.kill()
    script.wait()
    assert [pid for pid in below if not gone(pid, 5.0)] == []


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_storm_of_signals_is_one_clean_end(checkout: Path, port: int, first: signal.Signals) -> None:
    script = start(checkout, "object", "-y", "--port", str(port))
    wait_for(checkout / "server_pid")
    time.sleep(0.5)
    below = children_of(script.pid)
    for number in [first] + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 6:
        if script.poll() is None:
            os.kill(script.pid, number)
        time.sleep(0.03)
    assert script.wait(timeout=20) == 128 + first
    assert [pid for pid in below if not gone(pid, 5.0)] == []


def test_demos_of_the_same_second_go_to_folders_of_their_own(checkout: Path) -> None:
    # A second one in the same folder finds the file there, and fails.
    (checkout / "scripts" / "evaluate.py").write_text(
        "import pathlib, sys, time\nfolder = pathlib.Path(sys.argv[-1])\n(folder / 'plan.json').open('x')\n"
        "time.sleep(0.5)\n"
    )
    run = shell("for _ in {1..4}; do ./run_libero_quant_w4a8.sh demo & done; wait", cwd=checkout)
    folders = list((checkout / "runs").iterdir())
    assert len(folders) == 4, run.stderr
    assert all((folder / "plan.json").is_file() for folder in folders)
    assert "FileExistsError" not in run.stderr


def test_a_demo_whose_request_is_refused_leaves_no_folder(checkout: Path) -> None:
    run = shell("./run_libero_quant_w4a8.sh demo", cwd=checkout)
    assert run.returncode == 3, run.stderr
    assert list((checkout / "runs").iterdir()) == []
