"""The interval over episodes. Oracles: Student's t, and simulated sets whose correlation is known."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import t as student

from gr00t.eval.drift import episode_bootstrap
from gr00t.eval.drift.chunks import DriftError
from gr00t.eval.drift.episode_bootstrap import geometric_mean_interval

EPISODES, EACH = 10, 5
# Correlation within an episode -> coverage in % of nominal 95 % intervals over episodes, over observations.
COVERAGE = {0.0: (94.0, 93.8), 0.5: (94.2, 73.1), 0.9: (94.7, 62.2)}


def logs(rng: np.random.Generator, correlation: float) -> np.ndarray:
    """(EPISODES, EACH) of mean -3 and standard deviation 0.6."""
    shared = rng.normal(size=(EPISODES, 1)) * np.sqrt(correlation)
    own = rng.normal(size=(EPISODES, EACH)) * np.sqrt(1 - correlation)
    return -3 + 0.6 * (shared + own)


def test_one_observation_per_episode_is_students_interval() -> None:
    values = logs(np.random.default_rng(1), 0.0)[:, 0]
    found = np.log([*geometric_mean_interval(np.exp(values), range(EPISODES)).__dict__.values()])
    half = student.ppf(0.975, EPISODES - 1) * values.std(ddof=1) / np.sqrt(EPISODES)
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=0.06 * half)


def test_saying_everything_five_times_makes_nothing_more_certain() -> None:
    values = np.exp(logs(np.random.default_rng(2), 0.0)[:, 0])
    once = geometric_mean_interval(values, range(EPISODES))
    repeated = geometric_mean_interval(np.repeat(values, EACH), np.repeat(np.arange(EPISODES), EACH).tolist())
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high), rel=1e-12)
    as_if_alone = geometric_mean_interval(np.repeat(values, EACH), range(EPISODES * EACH))
    assert np.log(as_if_alone.high / as_if_alone.low) < 0.5 * np.log(once.high / once.low)


def test_an_exact_zero_neither_warns_nor_decides() -> None:
    values = np.exp(logs(np.random.default_rng(3), 0.0)[:, 0])
    values[0] = 0.0
    found = geometric_mean_interval(values, range(EPISODES))
    assert 0 < found.low < found.high < 1


@pytest.mark.parametrize(
    ("episodes", "told"),
    [
        (["a"] * 3, "observations of 1 episode: an interval over episodes needs at least two"),
        (["a", "b"], "3 errors of 2 observations"),
    ],
)
def test_what_has_no_interval_is_refused(episodes: list[str], told: str) -> None:
    with pytest.raises(DriftError, match=f"^{re.escape(told)}$"):
        geometric_mean_interval(np.ones(3), episodes)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", COVERAGE)
def test_coverage_is_as_the_head_of_the_file_says(correlation: float) -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(EPISODES), EACH).tolist()
    runs = 2_000
    held = np.zeros(2)
    for _ in range(runs):
        errors = np.exp(logs(rng, correlation)).ravel()
        for way, episodes in enumerate((places, range(len(places)))):
            found = geometric_mean_interval(errors, episodes, resamples=1_000)
            held[way] += found.low <= np.exp(-3) <= found.high
    covered = tuple(np.round(100 * held / runs, 1))
    assert covered == COVERAGE[correlation]
    told = episode_bootstrap.__doc__ or ""
    assert all(f"{value:.1f} %" in told for value in covered)
