"""Oracle: a result file that vla-eval 0.8.0 wrote of this server, shortened."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.harnesses.results import ResultError, find_result, read_result

LAYER = {"bits": "W4 A8", "in_features": 128, "out_features": 128}
TOLD: dict[str, Any] = {
    "benchmark": "LIBEROBenchmark",
    "mode": "sync",
    "harness_version": "0.8.0",
    "mean_success": 0.8333,
    "num_episodes_total": 6,
    "num_errors": 0,
    "tasks": [{"task": "pick up the milk and place it in the basket", "mean_success": 0.8333}],
    "server_info": {
        "model_server": "gr00t-duquant",
        "replan_steps": 8,
        "noise_seed": 0,
        "server": {"model_path": "examples/Libero/demo_policy", "identity": {"model": "2d698615"}},
        "quantization": {
            "enabled": True,
            "layers_quantized": 2,
            "layers_informed": 2,
            "calibrating": False,
            "linear_bytes": 947_752,
            "linear_bytes_before": 2_760_192,
            "layers": {"a": LAYER, "b": {**LAYER, "bits": "W8 A8"}},
        },
    },
}


def told(tmp_path: Path, change: dict[str, Any] | None = None, **changed: Any) -> dict[str, str]:
    """Read a file, with entries of the report and of the whole changed; the lines by their names."""
    content = copy.deepcopy(TOLD)
    content["server_info"]["quantization"].update(change or {})
    content.update(changed)
    path = tmp_path / "LIBEROBenchmark_aggregate.json"
    path.write_text(json.dumps(content))
    return {name.strip(): text for name, text in find_result(tmp_path).lines()}


def test_what_is_told_is_what_the_file_says(tmp_path: Path) -> None:
    assert told(tmp_path) == {
        "vla-eval 0.8.0": "success rate 83.3 % of 6 episodes",
        "result file": str(tmp_path / "LIBEROBenchmark_aggregate.json"),
        "policy": "examples/Libero/demo_policy",
        "weights, sha256": "2d698615",
        "quantized": "2 layers: 1 at W4 A8, 1 at W8 A8",
        "their bytes": "947,752, before 2,760,192",
        "calibrated": "before it was served, 2 layers by recorded inputs",
        "noise": "seed 0; 8 actions of each chunk",
    }
    assert find_result(tmp_path).is_complete


def test_a_policy_that_is_not_quantized_or_still_calibrates_is_called_so(tmp_path: Path) -> None:
    assert told(tmp_path, {"calibrating": True})["calibrated"] == "on these episodes"
    assert told(tmp_path, {"enabled": False})["quantized"] == "no"
    assert told(tmp_path, server_info={})["quantized"] == "it does not say"


def test_episodes_that_are_missing_or_came_to_no_end_are_told(tmp_path: Path) -> None:
    lines = told(tmp_path, num_errors=2, partial=True)
    assert lines["vla-eval 0.8.0"] == (
        "success rate 83.3 % of 6 episodes; 2 of them came to no end; not all that were asked for"
    )
    assert not find_result(tmp_path).is_complete
    told(tmp_path, num_episodes_total=0)
    assert not find_result(tmp_path).is_complete


def test_a_file_that_is_not_there_or_says_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"expected one \*_aggregate\.json, found none"):
        find_result(tmp_path)
    with pytest.raises(ResultError, match="mean_success: input should be a valid number, got 'all'"):
        told(tmp_path, mean_success="all")
    path = tmp_path / "broken.json"
    path.write_text('{"mean_success": NaN}')
    with pytest.raises(ResultError, match="NaN is no number of JSON"):
        read_result(path)
    (tmp_path / "Other_aggregate.json").write_text("{}")
    with pytest.raises(ResultError, match=r"found LIBEROBenchmark_aggregate\.json, Other_aggregate\.json"):
        find_result(tmp_path)
