"""Run folders as the runner leaves them, with outcomes that a test has chosen. Nothing is simulated."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gr00t.eval.rollout.records import EpisodeRecord

# Solves (task, initial state)? None: the simulator failed.
Outcome = Callable[[int, int], bool | None]

QUANTIZED = {
    "enabled": True,
    "layers_replaced": 116,
    "layers_quantized": 116,
    "layers": {
        "backbone.language_model.layers.0.self_attn.q_proj": {"bits": "W4 A8", "accumulator": "int8 GEMM"},
        "action_head.model.transformer_blocks.0.ff.net.0.proj": {"bits": "W4 A8", "accumulator": "int8 GEMM"},
    },
    "layers_from_packs": 116,
    "layers_informed": 116,
    "calibrating": False,
    "linear_bytes_before": 1_522_532_352,
    "linear_bytes": 422_925_312,
    "model_bytes_before": 5_447_000_000,
    "model_bytes": 4_347_392_960,
    "config": {"WBITS_DEFAULT": "4", "ABITS": "8"},
}
W4A8 = {"ABITS": "8", "BLOCK": "16", "CALIB_STEPS": "0", "LS": "0.5", "WBITS_DEFAULT": "4"}


def record(arm: str, task: int, init_state: int, success: bool | None, **changes: Any) -> EpisodeRecord:
    """An episode's record; jerk, times and steps follow from its key."""
    rng = np.random.default_rng([task, init_state, len(arm)])
    steps = int(rng.integers(90, 160)) if success else 280
    queries = -(-steps // changes.get("replan_steps", 8))
    values: dict[str, Any] = {
        "arm": arm,
        "suite": "libero_object",
        "task": task,
        "task_name": f"pick_up_item_{task}",
        "language": f"pick up item {task} and place it in the basket",
        "init_state": init_state,
        "seed": 0,
        "success": success,
        "steps": steps,
        "lifted_wrong": None,
        "queries": queries,
        "simulator_error": "the simulator process died" if success is None else None,
        "retried": success is None,
        "jerk": round(float(rng.uniform(0.05, 0.09)), 6),
        "gripper_switches": None,
        "seam_jump": None,
        "actions": None,
        "actions_hash": f"{arm}{task}{init_state}",
        "wall_seconds": 12.5,
        "query_ms": [round(float(ms), 1) for ms in rng.normal(30, 3, queries)],
        "simulator_ms_per_step": 6.5,
        "render_ms_per_image": 12.0,
        "video": None,
        "thumbnail": None,
        "replan_steps": 8,
        "max_steps": 280,
        "assets": "stand-ins",
        "assets_fingerprint": "5fd1a2",
        "rendering": "light",
        "placement": "recorded",
        "gl_backend": "osmesa",
        "denoising_steps": 8,
        "quantized_layers": 116,
        "server": "tcp://127.0.0.1:5555",
        "versions": {"mujoco": "3.3.2", "robosuite": "1.4.0", "hf-libero": "0.1.4", "python": "3.11"},
        "identity": None,
    }
    return EpisodeRecord.from_line({**values, **changes})


def write_run(
    folder: Path,
    outcomes: Mapping[str, Outcome],
    *,
    tasks: Sequence[int] = (0, 1),
    init_states: Sequence[int] = (0, 1, 2, 3),
    seeds: Sequence[int] = (0,),
    suite: str = "libero_object",
    kinds: Mapping[str, str] | None = None,
    only: Callable[[str, int, int], bool] = lambda arm, task, init_state: True,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    media: bool = False,
    **changes: Any,
) -> Path:
    """Write a run folder.

    Args:
        folder: Made if needed.
        outcomes: Per arm, in order.
        tasks: All that were planned.
        init_states: Likewise.
        seeds: Likewise; outcomes are the same under each.
        suite: Its name.
        kinds: Of arms that are no recipe, by name.
        only: Which episodes have been played so far.
        facts: What `arms/NAME.json` says besides, by arm.
        media: Whether there are thumbnails and (unplayable) videos.
        changes: Fields of all records.
    """
    kinds = kinds or {}
    plan = {
        "suite": suite,
        "seeds": list(seeds),
        "replan_steps": changes.get("replan_steps", 8),
        "max_steps": changes.get("max_steps", 280),
        "tasks": list(tasks),
        "init_states": list(init_states),
        "arms": {name: {"kind": kinds.get(name, "recipe")} for name in outcomes},
    }
    (folder / "arms").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    lines = []
    for arm, outcome in outcomes.items():
        told = {"name": arm, "kind": kinds.get(arm, "recipe"), **(facts or {}).get(arm, {})}
        (folder / "arms" / f"{arm}.json").write_text(json.dumps(told))
        for task in tasks:
            for state in init_states:
                if not only(arm, task, state):
                    continue
                files = _media(folder, arm, task, state) if media else {}
                for seed in seeds:
                    fields = {"suite": suite, "seed": seed, **files, **changes}
                    lines.append(record(arm, task, state, outcome(task, state), **fields).to_json() + "\n")
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


def solves(*lost: tuple[int, int]) -> Outcome:
    """Everything but these (task, initial state)."""
    return lambda task, state: (task, state) not in lost


def random_outcomes(rate: float, seed: int) -> Outcome:
    """Solves each episode with this probability."""
    return lambda task, state: bool(np.random.default_rng([seed, task, state]).random() < rate)


def _media(folder: Path, arm: str, task: int, state: int) -> dict[str, str]:
    rng = np.random.default_rng([task, state, sum(map(ord, arm))])
    image = np.full((128, 128, 3), rng.integers(60, 200, 3), dtype=np.uint8)
    image[80:] = (120, 90, 60)
    x, y = rng.integers(10, 90, 2)
    image[y : y + 24, x : x + 24] = rng.integers(0, 255, 3)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    names = {
        "thumbnail": f"thumbnails/{arm}/task{task:02d}_init{state:02d}.jpg",
        "video": f"videos/{arm}/task{task:02d}_init{state:02d}.mp4",
    }
    for kind, content in (("thumbnail", buffer.getvalue()), ("video", b"\0" * 5_000)):
        (folder / names[kind]).parent.mkdir(parents=True, exist_ok=True)
        (folder / names[kind]).write_bytes(content)
    return names
