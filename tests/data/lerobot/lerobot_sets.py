"""Small data sets in LeRobot's layouts, made here: frames whose brightness is their number, states too."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter

CAMERA = "observation.images.image"
MODALITY = {
    "state": {"x": {"start": 0, "end": 1}},
    "action": {"x": {"start": 0, "end": 1}},
    "video": {"image": {"original_key": CAMERA}},
    "annotation": {"task": {"original_key": "task_index"}},
}
TASKS = ("lift it", "drop it", "turn it")


def steps(*keys: str) -> ModalityConfig:
    """Some keys of a modality, now."""
    return ModalityConfig(delta_indices=[0], modality_keys=list(keys))


CONFIG = {
    "video": steps("video.image"),
    "state": steps("state.x"),
    "action": steps("action.x"),
    "language": steps("annotation.task"),
}


def picture(number: int) -> np.ndarray:
    """A grey frame whose brightness is its number."""
    return np.full((32, 32, 3), 10 + 8 * number, dtype=np.uint8)


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames (..., 32, 32, 3) show."""
    levels = (frames.reshape(-1, 32 * 32 * 3).mean(axis=1) - 10) / 8
    assert np.abs(levels - levels.round()).max() < 0.3  # measured: at most 0.13
    return levels.round().astype(int).tolist()


def written(folder: Path, *lengths: int) -> Path:
    """Episodes of these lengths; row i of all shows i, its state is i and its action 100 + i."""
    writer = LeRobotWriter(folder, MODALITY, fps=20)
    first = 0
    for index, length in enumerate(lengths):
        rows = np.arange(first, first + length, dtype=np.float32)[:, None]
        frames = np.stack([picture(first + row) for row in range(length)])
        writer.add(Demonstration(TASKS[index], rows, 100 + rows, {"image": frames}, {}))
        first += length
    return folder


def video(folder: Path, episode: int = 0) -> Path:
    return folder / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"


def table(folder: Path, episode: int = 0) -> Path:
    return folder / f"data/chunk-000/episode_{episode:06d}.parquet"


def set_column(path: Path, name: str, values: Any) -> None:
    """Give a parquet file another column of this name; None takes it away."""
    content = pq.read_table(path)
    content = content.drop_columns([name]) if name in content.column_names else content
    pq.write_table(content if values is None else content.append_column(name, pa.array(values)), path)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "meta" / name).read_text().splitlines()]


def set_lines(folder: Path, name: str, content: list[dict[str, Any]]) -> None:
    (folder / "meta" / name).write_text("".join(json.dumps(line) + "\n" for line in content))


def set_info(folder: Path, **values: Any) -> None:
    """Change entries of info.json; None takes one away."""
    path = folder / "meta" / "info.json"
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def set_modality(folder: Path, **kinds: Any) -> None:
    (folder / "meta" / "modality.json").write_text(json.dumps({**MODALITY, **kinds}))


def opened(folder: Path, config: dict[str, ModalityConfig] | None = None) -> LeRobotDataset:
    return LeRobotDataset(folder, CONFIG if config is None else config, folder.parent / "cache")


def samples(folder: Path, config: dict[str, ModalityConfig] | None = None) -> dict[str, Any]:
    """All of them."""
    dataset = opened(folder, config)
    return dataset.batch(list(range(len(dataset))))


def refusal(folder: Path, config: dict[str, ModalityConfig] | None = None) -> str:
    with pytest.raises(DatasetError) as error:
        opened(folder, config)
    return str(error.value)


def film(path: Path, times: list[int], first: int = 0, **options: str) -> None:
    """Write frames `first`, `first` + 1, ... shown at `times`, in milliseconds."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": "10", **options})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(first + number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def as_v3(folder: Path, target: Path, per_file: int = 2) -> Path:
    """The same set in the v3 layout: `per_file` episodes a file, their packets one behind the other."""
    (target / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    listed = []
    for number, episode in enumerate(lines(folder, "episodes.jsonl")):
        place = {"chunk_index": 0, "file_index": number // per_file}
        start = 0.0 if number % per_file == 0 else listed[-1][f"videos/{CAMERA}/to_timestamp"]
        listed.append(
            {
                **episode,
                **{f"data/{key}": value for key, value in place.items()},
                **{f"videos/{CAMERA}/{key}": value for key, value in place.items()},
                f"videos/{CAMERA}/from_timestamp": start,
                f"videos/{CAMERA}/to_timestamp": start + episode["length"] / 20,
                "stats/action/mean": [0.0],
            }
        )
    pq.write_table(pa.Table.from_pylist(listed), target / "meta/episodes/chunk-000/file-000.parquet")
    for first in range(0, len(listed), per_file):
        group = [line["episode_index"] for line in listed[first : first + per_file]]
        name = f"chunk-000/file-{first // per_file:03d}"
        for path in (target / f"data/{name}.parquet", target / f"videos/{CAMERA}/{name}.mp4"):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows = pa.concat_tables([pq.read_table(table(folder, index)) for index in group])
        pq.write_table(rows, target / f"data/{name}.parquet")
        join([video(folder, index) for index in group], target / f"videos/{CAMERA}/{name}.mp4")
    tasks = lines(folder, "tasks.jsonl")
    index = {"__index_level_0__": [task["task"] for task in tasks]}
    pq.write_table(
        pa.table({"task_index": [task["task_index"] for task in tasks], **index}),
        target / "meta/tasks.parquet",
    )
    for name in ("info.json", "modality.json"):
        (target / "meta" / name).write_bytes((folder / "meta" / name).read_bytes())
    set_info(target, codebase_version="v3.0", data_path=None, video_path=None)
    return target


def join(videos: list[Path], target: Path) -> None:
    """Put the packets of videos one behind the other, undecoded."""
    with av.open(str(target), "w", format="mp4") as whole:
        stream = None
        offset = 0
        for path in videos:
            with av.open(str(path)) as part:
                of_part = part.streams.video[0]
                stream = stream or whole.add_stream_from_template(of_part)
                behind = offset + of_part.duration
                for packet in part.demux(of_part):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = stream
                        whole.mux(packet)
                offset = behind
