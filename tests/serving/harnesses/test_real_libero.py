"""vla-eval 0.8.0 plays LIBERO and LIBERO-PRO in MuJoCo against our server, where all of them are installed.

Oracle: what the harness writes down of every step, and what reaches the policy: frames of a scene, the noise
of our own runner, and angles above pi, of which LIBERO-PRO's benchmark sends none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.cli.harnesses.results import find_result
from gr00t.cli.harnesses.setup import LIBERO, LIBERO_PRO, harness_run
from gr00t.serving.harnesses.libero import noise_seed
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from tests.libero.pro_wheel import needs_pro
from tests.serving.recorded import ROOT
from tests.serving.websocket.peers import ScriptedPolicy, chunk, serving

pytestmark = [
    pytest.mark.libero,
    pytest.mark.skipif(
        importlib.util.find_spec("vla_eval") is None,
        reason="vla-eval is not installed; run: ./scripts/setup_env.sh core libero websocket vla-eval",
    ),
]
STEPS = 24
TASK = "pick up the alphabet soup and place it in the basket"


def played(tmp_path: Path, benchmark: str, **params: Any) -> tuple[ScriptedPolicy, list[dict[str, Any]]]:
    """Let vla-eval play the beginning of an episode; return what was asked, and its record of every step."""
    policy = ScriptedPolicy([0.1 * chunk(number) for number in range(9)])
    results = tmp_path / "results"
    with serving(VlaEvalServer, policy) as (_, port):
        config = {
            "server": {"url": f"ws://127.0.0.1:{port}", "timeout": 60},
            "output_dir": str(results),
            "benchmarks": [
                {
                    "benchmark": benchmark,
                    **{"episodes_per_task": 1, "max_tasks": 1, "max_steps": STEPS},
                    "params": {"seed": 7, **params},
                }
            ],
        }
        (tmp_path / "run.yaml").write_text(json.dumps(config))
        run = harness_run(tmp_path / "run.yaml", [], os.environ, assets="stand-ins")
        done = subprocess.run(
            [sys.executable, *run.program],
            env={**run.environ, "PYTHONPATH": os.pathsep.join((run.environ["PYTHONPATH"], str(ROOT)))},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    result = find_result(results)
    assert result.is_complete
    assert result.told.num_episodes_total == 1
    report = result.told.server_info.quantization
    assert report is not None
    assert report.layers_quantized == 116
    (recorded,) = results.rglob("*.jsonl")
    return policy, [json.loads(line) for line in recorded.read_text().splitlines()]


def check_steps(policy: ScriptedPolicy, steps: list[dict[str, Any]]) -> None:
    """Check that every action was executed in its turn, and that a scene was seen."""
    wanted = np.concatenate([0.1 * chunk(number)[:8] for number in range(3)])
    wanted[:, 6] = 1  # LIBERO's gripper knows nothing between
    np.testing.assert_allclose([step["action"] for step in steps], wanted, atol=1e-6)
    for seen in policy.seen:
        for camera in ("video.image", "video.wrist_image"):
            assert seen[camera].shape == (1, 256, 256, 3)
            assert seen[camera].std() > 10


def turns(policy: ScriptedPolicy) -> np.ndarray:
    """Return the axis-angles that reached the policy, (queries, 3)."""
    keys = ("state.roll", "state.pitch", "state.yaw")
    return np.array([[seen[key].item() for key in keys] for seen in policy.seen])


def test_vla_eval_plays_libero(tmp_path: Path) -> None:
    policy, steps = played(tmp_path, LIBERO, suite="libero_object")
    check_steps(policy, steps)
    assert policy.seeds == [noise_seed(0, "libero_object", 0, 0, query) for query in range(3)]
    assert policy.seen[0]["annotation.human.action.task_description"] == [TASK]
    # The state before a query is that after the step before it, as the harness has written it down.
    for query in (1, 2):
        np.testing.assert_allclose(turns(policy)[query], steps[8 * query - 1]["state"][3:6], atol=1e-6)


@needs_pro
def test_vla_eval_plays_libero_pro_and_its_angles_are_unfolded(tmp_path: Path) -> None:
    policy, steps = played(tmp_path, LIBERO_PRO, suite="libero_object", perturbation="swap")
    check_steps(policy, steps)
    assert policy.seeds == [noise_seed(0, "libero_object_swap", 0, 0, query) for query in range(3)]
    unfolded = 0
    for query in (1, 2):
        sent, got = np.array(steps[8 * query - 1]["state"][3:6]), turns(policy)[query]
        assert np.linalg.norm(sent) <= np.pi + 1e-6
        assert got[0] > 0
        if sent[0] < 0:
            # The same turn, the other way around.
            np.testing.assert_allclose(np.linalg.norm(got) + np.linalg.norm(sent), 2 * np.pi, atol=1e-5)
            np.testing.assert_allclose(np.cross(got, sent), 0, atol=1e-4)
            unfolded += 1
    assert unfolded > 0
