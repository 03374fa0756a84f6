"""What a run leaves behind: one JSON line per episode, videos, and a summary that stands alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.eval.libero.suites import LiberoError


@dataclass(frozen=True)
class EpisodeRecord:
    """One line of `episodes.jsonl`; `success` is None when the simulator failed twice."""

    suite: str
    task: int
    task_name: str
    language: str
    init_state: int
    seed: int
    success: bool | None
    steps: int
    queries: int
    simulator_error: str | None
    retried: bool
    jerk: float
    wall_seconds: float
    policy_ms_per_query: float
    simulator_ms_per_step: float
    render_ms_per_image: float
    video: str | None
    replan_steps: int
    max_steps: int
    assets: str
    assets_fingerprint: str
    gl_backend: str
    quantized_layers: int | None
    server: str
    versions: dict[str, str]


class RunFolder:
    """The folder of one run; made when there is something to put in it.

    Args:
        path: The folder.

    Raises:
        LiberoError: if it already holds the episodes of another run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.episodes = path / "episodes.jsonl"
        self.simulator_log = path / "simulator.log"
        if self.episodes.exists():
            raise LiberoError(f"{path} already holds the episodes of a run; name another --output folder")

    def add(self, record: EpisodeRecord) -> None:
        """Append a line and hand it to the system at once: a killed run keeps its finished episodes."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.episodes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def video_path(self, task: int, init_state: int, outcome: str) -> Path:
        """Where the video of an episode belongs."""
        return self.path / "videos" / f"task{task:02d}_init{init_state:02d}_{outcome}.mp4"


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], fps: int) -> None:
    """Write frames (S, S, 3) uint8 as H.264, with the ffmpeg that the imageio-ffmpeg wheel brings."""
    import imageio_ffmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", quality=7, ffmpeg_log_level="error"
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def summarize(records: Iterable[EpisodeRecord]) -> dict[str, Any]:
    """Success per task and in total. Episodes lost to the simulator are counted apart, not as failures."""
    records = list(records)
    tasks: dict[int, list[EpisodeRecord]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record)
    return {
        **_counts(records),
        "tasks": [
            {"task": task, "language": group[0].language, **_counts(group)}
            for task, group in sorted(tasks.items())
        ],
        "policy_ms_per_query": _mean([r.policy_ms_per_query for r in records if r.queries]),
        "simulator_ms_per_step": _mean([r.simulator_ms_per_step for r in records if r.steps]),
        "render_ms_per_image": _mean([r.render_ms_per_image for r in records if r.render_ms_per_image]),
    }


def summary_table(summary: dict[str, Any]) -> str:
    """The summary for people: a line per task and one for the total."""
    rows = [(f"{row['task']:>4d}", row["language"], row) for row in summary["tasks"]]
    rows.append(("all", "", summary))
    width = max(len(language) for _, language, _ in rows)
    lines = [f"{'task':>4} {'instruction':<{width}} {'success':>9} {'rate':>7} {'simulator errors':>17}"]
    for name, language, row in rows:
        rate = "-" if row["success_rate"] is None else f"{100 * row['success_rate']:.1f} %"
        won = f"{row['successes']}/{row['episodes']}"
        lines.append(f"{name:>4} {language:<{width}} {won:>9} {rate:>7} {row['simulator_errors']:>17d}")
    return "\n".join(lines)


def _counts(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    played = [record for record in records if record.success is not None]
    successes = sum(bool(record.success) for record in played)
    return {
        "episodes": len(played),
        "successes": successes,
        "success_rate": successes / len(played) if played else None,
        "simulator_errors": len(records) - len(played),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), 3) if values else None
