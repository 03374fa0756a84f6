"""The harnesses' own clients against our server, where they are installed.

Oracle: what vla-eval 0.8.0 writes down of a run, and what openpi-client 0.1.2 returns or raises.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.serving.harnesses.libero import noise_seed
from gr00t.serving.harnesses.openpi import OpenPiServer
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from tests.serving.recorded import ROOT
from tests.serving.websocket.peers import ScriptedPolicy, chunk, serving

SETUP = "run: ./scripts/setup_env.sh core libero websocket"
CONFIG = """
server: {{url: "ws://127.0.0.1:{port}/?token=secret"}}
output_dir: {folder}
benchmarks:
  - benchmark: "tests.serving.harnesses.toy_benchmark:LIBEROBenchmark"
    episodes_per_task: 2
"""


def test_vla_eval_plays_a_benchmark_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("vla_eval.orchestrator", reason=f"vla-eval is not installed; {SETUP} vla-eval")
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy, api_token="secret", info={"model_path": "M"}) as (_, port):
        config = tmp_path / "run.yaml"
        config.write_text(CONFIG.format(port=port, folder=tmp_path / "results"))
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "VLA_EVAL_TRACKING": "0"}
        program = "from vla_eval.cli.main import main; main()"
        run = subprocess.run(
            [sys.executable, "-c", program, "run", "--no-docker", "--render", "cpu", "-c", str(config)],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    (result,) = (tmp_path / "results").rglob("*aggregate.json")
    told: dict[str, Any] = json.loads(result.read_text())
    assert told["mean_success"] == 1.0
    assert told["server_info"]["quantization"] == {"enabled": True, "layers_quantized": 116}
    assert told["server_info"]["server"]["model_path"] == "M"
    # Two tasks, two episodes each, 20 steps: three chunks of eight each, and the noise of our own runner.
    wanted = [
        noise_seed(0, "libero_object", task, episode, query)
        for task in (0, 1)
        for episode in (0, 1)
        for query in range(3)
    ]
    assert sorted(policy.seeds) == sorted(wanted)
    assert policy.seen[0]["state.roll"].item() == 3.1


def test_openpis_client_and_its_broker() -> None:
    reason = f"openpi-client is not installed; {SETUP} openpi"
    policies = pytest.importorskip("openpi_client.websocket_client_policy", reason=reason)
    brokers = pytest.importorskip("openpi_client.action_chunk_broker", reason=reason)
    policy = ScriptedPolicy()
    image = np.zeros((224, 224, 3), np.uint8)
    told = {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(8),
        "prompt": "pick the milk",
    }
    with serving(OpenPiServer, policy, api_token="secret") as (_, port):
        client = policies.WebsocketClientPolicy("127.0.0.1", port, api_key="secret")
        assert client.get_server_metadata()["quantization"]["layers_quantized"] == 116
        reply = client.infer(told)
        np.testing.assert_array_equal(reply["actions"], chunk(0))
        broker = brokers.ActionChunkBroker(client, action_horizon=5)
        actions = [broker.infer(told)["actions"] for _ in range(7)]
        np.testing.assert_array_equal(actions, np.concatenate([chunk(1)[:5], chunk(2)[:2]]))
        with pytest.raises(RuntimeError, match="no 'prompt' in the observation"):
            client.infer({key: value for key, value in told.items() if key != "prompt"})
        with pytest.raises(Exception, match="401"):
            policies.WebsocketClientPolicy("127.0.0.1", port, api_key="wrong")
