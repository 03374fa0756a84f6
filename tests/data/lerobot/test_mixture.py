"""Several data sets as one. Oracle: the formulas of the shares and moments, over what each set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.errors import MetadataError
from gr00t.data.lerobot.dataset import LeRobotDataset
from gr00t.data.lerobot.meta.layout import DatasetError
from gr00t.data.lerobot.mixture import DatasetMixture, check_sets_fit
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.data.merged_metadata import Percentiles, merge_metadata

TAG = EmbodimentTag.NEW_EMBODIMENT
TEXT = "annotation.task"
CONFIG = {
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x"]),
    "action": ModalityConfig(delta_indices=[0, 1], modality_keys=["action.x"]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=[TEXT]),
}
WITH_VIDEO = {**CONFIG, "video": ModalityConfig(delta_indices=[0], modality_keys=["video.image"])}


def write(
    folder: Path,
    lengths: list[int],
    *,
    mean: float = 0.0,
    width: int = 2,
    side: int = 0,
    fps: int = 20,
    task: str = "lift it",
) -> Path:
    """Write a set of random states and actions; frames of `side` pixels where that is not 0."""
    modality: dict[str, Any] = {
        "state": {"x": {"start": 0, "end": width}},
        "action": {"x": {"start": 0, "end": 1}},
        "video": {"image": {}} if side else {},
        "annotation": {"task": {"original_key": "task_index"}},
    }
    writer = LeRobotWriter(folder, modality, fps)
    rng = np.random.default_rng(len(lengths))
    for length in lengths:
        state = rng.normal(mean, 1 + abs(mean), (length, width)).astype(np.float32)
        frames = {"image": np.zeros((length, side, side, 3), np.uint8)} if side else {}
        writer.add(Demonstration(task, state, state[:, :1], frames, {}))
    return folder


def read(folder: Path, config: dict[str, ModalityConfig] = CONFIG) -> LeRobotDataset:
    return LeRobotDataset(folder, config, folder.parent / "cache")


@pytest.fixture
def pair(tmp_path: Path) -> list[LeRobotDataset]:
    """Sets of 30 and 10 steps, in 2 and 3 episodes."""
    return [
        read(write(tmp_path / "a", [20, 10])),
        read(write(tmp_path / "b", [2, 3, 5], mean=3.0, task="put it into the basket")),
    ]


def test_one_set_draws_and_describes_what_it_does_alone(pair: list[LeRobotDataset]) -> None:
    mixture = DatasetMixture(pair[:1], [1.0])
    drawn = [each.draw(np.random.default_rng(5), 64).tolist() for each in (mixture, pair[0])]
    assert drawn[0] == drawn[1]
    assert mixture.metadata(TAG).model_dump_json() == pair[0].metadata(TAG).model_dump_json()


def test_numbers_run_through_the_sets_in_order(pair: list[LeRobotDataset]) -> None:
    mixture = DatasetMixture(pair)
    assert (len(mixture), mixture.lengths.tolist()) == (40, [20, 10, 2, 3, 5])
    batch = mixture.batch([39, 0, 30, 29, 30])
    expected = np.concatenate([pair[0].values("state.x"), pair[1].values("state.x")])
    assert batch["state.x"][:, 0].tolist() == expected[[39, 0, 30, 29, 30]].tolist()
    assert mixture.values("state.x").tolist() == expected.tolist()
    # The longer text of the second set is not cut to the first one's length.
    basket, lift = ["put it into the basket"], ["lift it"]
    assert batch[TEXT].tolist() == [basket, lift, basket, lift, basket]
    # Behind the last step of the first set stands no step of the second.
    assert batch["action.x"][3, :, 0].tolist() == [expected[29, 0]] * 2


@pytest.mark.parametrize(
    ("weights", "balanced", "shares"),
    [
        (None, True, [0.75, 0.25]),
        (None, False, [0.5, 0.5]),
        ([1.0, 6.0], True, [1 / 3, 2 / 3]),
        ([1.0, 6.0], False, [1 / 7, 6 / 7]),
    ],
)
def test_shares_follow_weights_and_sizes(
    pair: list[LeRobotDataset], weights: list[float] | None, balanced: bool, shares: list[float]
) -> None:
    mixture = DatasetMixture(pair, weights, balance_datasets=balanced)
    assert mixture.shares == pytest.approx(shares, abs=1e-12)
    drawn = mixture.draw(np.random.default_rng(0), 40_000)
    assert (drawn >= 30).mean() == pytest.approx(shares[1], abs=0.01)  # 4 deviations
    within = np.bincount(drawn, minlength=40) / len(drawn)
    assert within[:30] == pytest.approx(np.full(30, shares[0] / 30), abs=0.004)


def test_unbalanced_trajectories_are_equally_likely_whatever_their_length(pair: list[LeRobotDataset]) -> None:
    mixture = DatasetMixture(pair[1:], balance_trajectories=False)
    drawn = np.bincount(mixture.draw(np.random.default_rng(0), 60_000), minlength=10) / 60_000
    assert drawn == pytest.approx([1 / 6] * 2 + [1 / 9] * 3 + [1 / 15] * 5, abs=0.007)


def test_moments_are_those_of_what_is_drawn(pair: list[LeRobotDataset]) -> None:
    mixture = DatasetMixture(pair, [1.0, 3.0])  # halves: 30 * 1 and 10 * 3
    merged = mixture.metadata(TAG).statistics.state["x"]
    parts = [dataset.values("state.x").astype(np.float64) for dataset in pair]
    steps = np.concatenate([parts[0], *[parts[1]] * 3])
    assert merged.mean == pytest.approx(steps.mean(axis=0), abs=1e-9)
    assert merged.std == pytest.approx(steps.std(axis=0), abs=1e-9)
    assert merged.min.tolist() == steps.min(axis=0).tolist()
    assert merged.max.tolist() == steps.max(axis=0).tolist()
    for name, percent in (("q01", 0.01), ("q99", 0.99)):
        averaged = np.mean([np.quantile(part, percent, axis=0) for part in parts], axis=0)
        assert getattr(merged, name) == pytest.approx(averaged, abs=1e-9)


def test_the_widest_percentiles_where_asked_for(pair: list[LeRobotDataset]) -> None:
    mixture = DatasetMixture(pair, percentiles=Percentiles.MIN_MAX)
    merged = mixture.metadata(TAG).statistics.state["x"]
    parts = [dataset.values("state.x").astype(np.float64) for dataset in pair]
    low = [np.quantile(part, 0.01, axis=0) for part in parts]
    assert merged.q01 == pytest.approx(np.min(low, axis=0), abs=1e-9)


def test_a_key_that_never_changes_has_no_spread(pair: list[LeRobotDataset]) -> None:
    metadata = pair[0].metadata(TAG)
    still = metadata.statistics.state["x"]
    for name in ("min", "max", "mean", "q01", "q99"):
        setattr(still, name, np.asarray([0.1, 1e3]))
    still.std = np.zeros(2)
    merged = merge_metadata([metadata] * 3, np.asarray([0.1, 0.2, 0.7]))
    assert merged.statistics.state["x"].std == pytest.approx([0.0, 0.0], abs=1e-12)
    other = metadata.model_copy(update={"embodiment_tag": EmbodimentTag.GR1})
    with pytest.raises(MetadataError, match="different embodiments: gr1, new_embodiment"):
        merge_metadata([metadata, other], np.ones(2))


def test_sets_that_do_not_fit_together_are_refused_with_every_difference(tmp_path: Path) -> None:
    one = read(write(tmp_path / "one", [3], side=32), WITH_VIDEO)
    small = read(write(tmp_path / "small", [3], side=16, width=3), WITH_VIDEO)
    slow = read(write(tmp_path / "slow", [3], side=32, fps=10), WITH_VIDEO)
    with pytest.raises(DatasetError) as error:
        DatasetMixture([one, small, slow])
    with pytest.raises(DatasetError) as early:
        check_sets_fit([each.layout for each in (one, small, slow)], WITH_VIDEO)
    assert str(early.value) == str(error.value)
    check_sets_fit([each.layout for each in (one, slow)], CONFIG)  # cameras are not asked for
    assert str(error.value).splitlines()[1:] == [
        f"{tmp_path}/one and {tmp_path}/small:",
        "  video.image: resolution [32, 32] and [16, 16]",
        "  state.x: shape [2] and [3]",
        f"{tmp_path}/one and {tmp_path}/slow:",
        "  video.image: fps 20.0 and 10.0",
    ]


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([1.0], "1 weights, 2 data sets; expected one for each"),
        ([1.0, 0.0], "weight 0.0: expected a number above 0; leave out a set that is not wanted"),
        ([1.0, -1.0], "weight -1.0: expected"),
        ([float("nan"), 1.0], "weight nan: expected"),
        ([float("inf"), 1.0], "weight inf: expected"),
    ],
)
def test_weights_that_are_none_are_refused(
    pair: list[LeRobotDataset], weights: list[float], problem: str
) -> None:
    with pytest.raises(DatasetError, match=problem):
        DatasetMixture(pair, weights)
    with pytest.raises(DatasetError, match="at least one data set"):
        DatasetMixture([])
