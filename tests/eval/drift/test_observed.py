"""Observations with their episodes. Oracle: numbers that say where each is from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.eval.drift.chunks import DriftError
from gr00t.eval.drift.digests import digest
from gr00t.eval.drift.observed import ObservedEpisodes, check_apart, observe, read_observed
from gr00t.serving.observation_file import EPISODE, ObservationFileError, write_observations


def numbered(*episodes: int | None) -> list[dict[str, Any]]:
    return [
        {"state.x": np.asarray([index]), **({} if episode is None else {EPISODE: episode})}
        for index, episode in enumerate(episodes)
    ]


def written(path: Path, observations: list[dict[str, Any]]) -> Path:
    write_observations(path, observations)
    return path


def numbers(observed: ObservedEpisodes) -> list[int]:
    return [int(observation["state.x"][0]) for observation in observed.observations]


def test_a_file_says_its_episodes_and_no_policy_sees_that(tmp_path: Path) -> None:
    found = read_observed(written(tmp_path / "file", numbered(7, 7, 2)))
    assert found.episodes == [7, 7, 2]
    assert numbers(found) == [0, 1, 2]
    assert [list(observation) for observation in found.observations] == [["state.x"]] * 3


def test_so_many_in_a_row_are_of_one_episode_where_the_caller_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "file", numbered(None, None, None, 5, None))
    assert read_observed(path, per_episode=2).episodes == [0, 0, 1, 1, 2]


def test_a_file_that_does_not_say_it_is_refused(tmp_path: Path) -> None:
    told = f"{tmp_path / 'file'}: observation 1 does not say which episode it is from"
    with pytest.raises(DriftError, match=f"^{re.escape(told)}.*give --per-episode N"):
        read_observed(written(tmp_path / "file", numbered(0, None)))


def test_an_empty_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DriftError, match=r"no observation in this file$"):
        read_observed(written(tmp_path / "empty", []))
    path = written(tmp_path / "file", numbered(0, 1))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ObservationFileError, match=r"after 1 whole observations.*cut off"):
        read_observed(path)


def test_the_last_whole_episodes_are_held_out() -> None:
    """Of tasks in turn, too: an episode is nowhere in both parts."""
    episodes = [0, 1, 0, 1, 2, 3, 2, 3, 3]
    observed = ObservedEpisodes(numbered(*episodes), episodes)
    for wanted, judged in ((1, [2, 3]), (5, [2, 3]), (6, [1, 2, 3]), (99, [0, 1, 2, 3])):
        rest, last = observed.hold_out(wanted)
        assert sorted(set(last.episodes)) == judged
        assert set(rest.episodes).isdisjoint(judged)
        assert sorted(numbers(rest) + numbers(last)) == list(range(9))


class CountingRecordings:
    """Every number says which episode and step it is of."""

    def get_step_data(self, trajectory_id: int, base_index: int) -> dict[str, Any]:
        return {"state.x": np.asarray([100 * trajectory_id + base_index]), "action.x": np.zeros((16, 1))}


def test_recorded_episodes_give_as_many_each_from_beginning_to_end() -> None:
    found = observe(CountingRecordings(), {3: 11, 4: 5}, wanted=5)
    assert numbers(found) == [300, 305, 310, 400, 404]
    assert found.episodes == [3, 3, 3, 4, 4]
    assert all(list(observation) == ["state.x"] for observation in found.observations)
    assert numbers(observe(CountingRecordings(), {3: 2}, wanted=5)) == [300, 301]


def test_what_calibrates_does_not_judge() -> None:
    recorded, judged = numbered(0, 0, 0), numbered(9, 9, 9, 9)[2:]
    told = "1 of the observations to judge by are among those to calibrate by"
    with pytest.raises(DriftError, match=f"^{told}"):
        check_apart(recorded, judged)
    check_apart(recorded[:2], judged)


def test_how_an_observation_is_packed_makes_it_no_other() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    seen = {"video.image": frame, "state.x": np.asarray([[0.1, 0.7]]), "annotation.task": ["lift it"]}
    same = {
        EPISODE: 3,
        "annotation.task": np.asarray(["lift it"]),
        "state.x": np.asarray([0.1, 0.7], np.float32),
        "video.image": frame[0],
    }
    assert digest(seen) == digest(same)
    for key, value in (
        ("state.x", np.asarray([[0.7, 0.1]])),
        ("annotation.task", ["lift"]),
        ("video.image", frame.reshape(1, 4, 1, 3)),
        ("video.image", frame + 1),
        ("state.y", np.asarray([[0.1, 0.7]])),
    ):
        assert digest({**seen, key: value}) != digest(seen)


def test_the_same_observation_in_other_episodes_is_counted() -> None:
    observations = numbered(0, 0, 1, 1)
    assert ObservedEpisodes(observations, [0, 0, 1, 1]).repeated == 0
    again = [observations[0], observations[0], observations[0], observations[3]]
    assert ObservedEpisodes(again, [0, 0, 1, 2]).repeated == 1
