"""Oracles: published critical values, and a Brownian motion played out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from gr00t.eval.interim.boundaries import critical_values, spent

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("cumulative", "published"),
    [
        # Lan and DeMets' two functions at a one-sided 2.5 %, five equal looks, as the program of Reboussin,
        # DeMets, Kim and Lan (Controlled Clinical Trials 21 (2000) 190) tabulates them.
        (
            [2 * (1 - ndtr(ndtri(1 - 0.0125) / np.sqrt(t))) for t in FIFTHS],
            [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
        ),
        ([0.025 * np.log(1 + (np.e - 1) * t) for t in FIFTHS], [2.4380, 2.4268, 2.4101, 2.3966, 2.3860]),
    ],
)
def test_published_boundaries_come_out(cumulative: list[float], published: list[float]) -> None:
    assert critical_values(FIFTHS, cumulative) == pytest.approx(published, abs=2e-4)


def test_a_motion_crosses_as_often_as_may_be_spent_at_each_look() -> None:
    shares = [0.07, 0.1, 0.25, 0.55, 1.0]
    errors = [spent(share, 0.05) for share in shares]
    critical = np.array(critical_values(shares, errors))
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((400_000, len(shares))) * np.sqrt(np.diff([0.0, *shares]))
    crossed = np.cumsum(steps, axis=1) / np.sqrt(shares) > critical
    by_then = np.maximum.accumulate(crossed, axis=1).mean(axis=0)
    # Four standard errors of the simulation.
    assert by_then == pytest.approx(errors, abs=4 * np.sqrt(0.05 / 400_000))


def test_one_look_is_the_plain_test_and_nonsense_is_refused() -> None:
    assert critical_values([1.0], [0.05]) == pytest.approx([1.6449], abs=1e-4)
    with pytest.raises(ValueError, match="expected increasing numbers above 0 and at most 1"):
        critical_values([0.5, 0.5], [0.01, 0.05])
