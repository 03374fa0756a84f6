"""Oracle: what was written, number for number; frames within what the codec loses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.meta.layout import DatasetError
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter

MODALITY = {
    "state": {"x": {"start": 0, "end": 1}, "gripper": {"start": 1, "end": 3}},
    "action": {"x": {"start": 0, "end": 1, "absolute": False}, "gripper": {"start": 1, "end": 2}},
    "video": {"image": {"original_key": "observation.images.image"}},
    "annotation": {"human.action.task_description": {"original_key": "task_index"}},
}
TEXT = "annotation.human.action.task_description"
CONFIG = {
    "video": ModalityConfig(delta_indices=[0], modality_keys=["video.image"]),
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x", "state.gripper"]),
    "action": ModalityConfig(delta_indices=[0, 1, 2], modality_keys=["action.x", "action.gripper"]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=[TEXT]),
}


def demonstration(length: int, task: str, seed: int) -> Demonstration:
    rng = np.random.default_rng(seed)
    # Smooth frames: what a camera sees, and what the codec is made for.
    ramp = np.linspace(0, 200, 32)[None, :, None, None] + np.linspace(0, 40, 32)[None, None, :, None]
    frames = ramp + np.arange(length)[:, None, None, None] + np.array([0, 5, 10])
    return Demonstration(
        task=task,
        state=rng.normal(size=(length, 3)).astype(np.float32),
        action=rng.normal(size=(length, 2)).astype(np.float32),
        frames={"image": frames.clip(0, 255).astype(np.uint8)},
        extra={"seed": seed},
    )


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Demonstration]]:
    shown = [demonstration(5, "lift it", 1), demonstration(7, "drop it", 2), demonstration(4, "lift it", 3)]
    writer = LeRobotWriter(tmp_path / "set", MODALITY, fps=20)
    for episode in shown:
        writer.add(episode)
    return tmp_path / "set", shown


def test_batches_are_what_was_written(written: tuple[Path, list[Demonstration]], tmp_path: Path) -> None:
    folder, shown = written
    dataset = LeRobotDataset(folder, CONFIG, tmp_path / "cache")
    assert len(dataset) == 16
    batch = dataset.batch([1, 6, 13])
    places = [(shown[0], 1), (shown[1], 1), (shown[2], 1)]
    for row, (episode, step) in enumerate(places):
        assert batch["state.x"][row].tolist() == episode.state[step : step + 1, :1].tolist()
        assert batch["state.gripper"][row].tolist() == episode.state[step : step + 1, 1:].tolist()
        assert batch["action.gripper"][row].tolist() == episode.action[step : step + 3, 1:].tolist()
        # Measured on these ramps (libx264, crf 18): at most 7 levels, 1.6 on average.
        lost = np.abs(batch["video.image"][row, 0].astype(int) - episode.frames["image"][step])
        assert lost.max() <= 10
        assert lost.mean() < 2.5
    assert batch[TEXT].tolist() == [["lift it"], ["drop it"], ["lift it"]]


def test_behind_the_end_positions_stay_and_changes_are_zero(
    written: tuple[Path, list[Demonstration]], tmp_path: Path
) -> None:
    folder, shown = written
    batch = LeRobotDataset(folder, CONFIG, tmp_path / "cache").batch([4, 10])
    last = shown[0].action[4]
    assert batch["action.gripper"][0, :, 0].tolist() == [last[1]] * 3
    assert batch["action.x"][0, :, 0].tolist() == [last[0], 0.0, 0.0]
    assert batch["action.x"][1, :, 0].tolist() == [*shown[1].action[5:7, 0], 0.0]


def test_statistics_are_numpys_over_all_steps(
    written: tuple[Path, list[Demonstration]], tmp_path: Path
) -> None:
    folder, shown = written
    metadata = LeRobotDataset(folder, CONFIG, tmp_path / "cache").metadata(EmbodimentTag.NEW_EMBODIMENT)
    states = np.concatenate([episode.state[:, 1:] for episode in shown]).astype(np.float64)
    known = metadata.statistics.state["gripper"]
    assert known.max.tolist() == states.max(axis=0).tolist()
    assert known.std == pytest.approx(states.std(axis=0))
    assert known.q01 == pytest.approx(np.quantile(states, 0.01, axis=0))
    assert metadata.modalities.video["image"].resolution == (32, 32)
    assert not metadata.modalities.action["x"].absolute


def test_a_second_reader_decodes_nothing(written: tuple[Path, list[Demonstration]], tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        decoded: list[int] = []
        LeRobotDataset(written[0], CONFIG, tmp_path / "cache", on_video=lambda seen=decoded: seen.append(1))
        counts.append(len(decoded))
    assert counts == [3, 0]


def test_a_killed_writer_goes_on_and_a_torn_line_does_not_count(
    written: tuple[Path, list[Demonstration]], tmp_path: Path
) -> None:
    folder, _ = written
    lines = folder / "meta" / "episodes.jsonl"
    lines.write_text(lines.read_text()[:-9])
    writer = LeRobotWriter(folder, MODALITY, fps=20)
    assert [line["seed"] for line in writer.episodes] == [1, 2]
    writer.add(demonstration(6, "turn it", 9))
    info = json.loads((folder / "meta" / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 18, 3)
    dataset = LeRobotDataset(folder, CONFIG, tmp_path / "cache")
    assert len(dataset) == 18
    assert dataset.batch([12])[TEXT].tolist() == [["turn it"]]


def test_what_is_wrong_is_named(written: tuple[Path, list[Demonstration]], tmp_path: Path) -> None:
    folder, _ = written
    cache = tmp_path / "cache"
    wrong = {**CONFIG, "state": ModalityConfig(delta_indices=[0], modality_keys=["state.griper"])}
    with pytest.raises(DatasetError, match=r"modality.json: no 'state.griper'; did you mean state.gripper"):
        LeRobotDataset(folder, wrong, cache)
    with pytest.raises(DatasetError, match="no such folder"):
        LeRobotDataset(folder / "none", CONFIG, cache)
    (folder / "videos" / "chunk-000" / "observation.images.image" / "episode_000001.mp4").unlink()
    with pytest.raises(DatasetError, match=r"episode_000001\.mp4: not found"):
        LeRobotDataset(folder, CONFIG, cache)
    info = folder / "meta" / "info.json"
    info.write_text(info.read_text().replace("v2.1", "v3.0"))
    with pytest.raises(
        DatasetError, match=r"info.json: codebase_version 'v3.0', but episodes.jsonl is of the v2 la"
    ):
        LeRobotDataset(folder, CONFIG, cache)


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path / "set", MODALITY, fps=20)
    good = demonstration(4, "lift it", 0)
    with pytest.raises(DatasetError, match="episode 0: 3 actions, 4 states"):
        writer.add(
            Demonstration(good.task, good.state, good.action[:3], good.frames, good.extra),
        )
    assert writer.episodes == []
