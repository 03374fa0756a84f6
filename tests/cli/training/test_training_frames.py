"""Which frames a training sees. Oracle: a set whose frame i is i grey levels bright, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.experiment.data_config import load_data_config
from tests.cli.training.training_runs import (
    LIBERO,
    REPO,
    FinetuneArguments,
    TrainArguments,
    data_identity,
    data_settings,
    load_data,
    parse,
)


class Nothing:
    """A network without weights."""

    @staticmethod
    def state_dict() -> dict[str, np.ndarray]:
        return {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four rows, each stamped a little before the frame that follows its own, as in NVIDIA's sets."""
    path = tmp_path / "set"
    levels = np.arange(4, dtype=np.uint8)[:, None, None, None] * 60
    frames = np.broadcast_to(levels, (4, 64, 64, 3)).copy()
    numbers = np.zeros((4, 8), np.float32)
    writer = LeRobotWriter(path, json.loads((REPO / "examples/Libero/modality.json").read_text()), 20)
    writer.add(
        Demonstration("lift it", numbers, numbers[:, :7], {"image": frames, "wrist_image": frames}, {})
    )
    (table,) = path.glob("data/*/*.parquet")
    rows = pq.read_table(table).drop_columns(["timestamp"])
    pq.write_table(rows.append_column("timestamp", pa.array(np.arange(1, 5) / 20 - 1e-7)), table)
    return path


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        (TrainArguments, "", [1, 2, 3, 3]),
        (FinetuneArguments, "", [0, 1, 2, 3]),
        (TrainArguments, "--video-backend torchvision_av", [0, 1, 2, 3]),
        (FinetuneArguments, "--video-backend decord", [1, 2, 3, 3]),
    ],
)
def test_a_row_sees_the_frame_that_the_decoder_would_show(
    folder: Path, kind: type[TrainArguments], flags: str, expected: list[int]
) -> None:
    arguments = parse(kind, None, ["--data", str(folder), *flags.split()])
    samples = load_data(arguments, load_data_config(LIBERO), folder.parent / "frames")
    seen = samples.batch(np.arange(4))["video.image"].mean(axis=(1, 2, 3, 4))
    assert np.round(seen / 60).astype(int).tolist() == expected
    rule = "nearest" if expected[0] else "last"
    identity = data_identity(
        data_settings(arguments),
        samples,
        samples.metadata("new_embodiment"),
        load_data_config(LIBERO),
        Nothing(),  # type: ignore[arg-type]
    )
    assert identity["frames"] == rule
