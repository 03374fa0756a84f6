"""Disagreements to look at: episodes that one arm solves and the baseline does not, or the other way round.

Pictures are put into the page, as are videos up to a budget, since a page is mailed around; beyond it a
video is linked beside the page. Only files of the run's own folder are read, whatever a record says.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

from gr00t.eval.rollout.record_parts import EpisodeKey
from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.statistics.pairs import Pair, pair_up
from gr00t.eval.statistics.runs import Run
from gr00t.eval.statistics.summary import Verdicts

# Of one arm; the rest is counted. Spread over tasks, losses and wins in turn.
MOST_SHOWN = 20
BUDGET_BYTES = 15_000_000


@dataclass(frozen=True)
class Side:
    """One arm's half; addresses are `data:` or relative to the page, None where nothing was kept.

    `lifted_wrong` is that of the record: the first object lifted that the task does not speak of.
    """

    arm: str
    success: bool
    steps: int
    lifted_wrong: str | None
    picture: str | None
    video: str | None

    @property
    def is_embedded(self) -> bool:
        """Whether the video is in the page itself."""
        return self.video is not None and self.video.startswith("data:")


@dataclass(frozen=True)
class Disagreement:
    """An episode that one of two arms solves."""

    suite: str
    task: int
    language: str
    init_state: int
    seed: int
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class Gallery:
    """The disagreements of one arm with the baseline: some shown, all counted."""

    arm: str
    shown: Sequence[Disagreement]
    total: int


def galleries(
    verdicts: Verdicts, runs: Sequence[Run], page: Path, budget: int = BUDGET_BYTES
) -> list[Gallery]:
    """Disagreements of every arm that is no control.

    Args:
        verdicts: Names the arms.
        runs: Where records and files are.
        page: The HTML file that will show them; links are relative to its folder.
        budget: Bytes that pictures and videos may take in the page, as base64.
    """
    folders = {record.key: run.path for run in runs for record in run.records}
    found = {}
    for arm in verdicts.arms:
        if arm.name != verdicts.baseline and not arm.is_control:
            ours, theirs = (
                [record for run in runs for record in run.records if record.key.arm == name]
                for name in (arm.name, verdicts.baseline)
            )
            found[arm.name] = pair_up(ours, theirs).disagreements()
    chosen = {name: _spread(pairs)[:MOST_SHOWN] for name, pairs in found.items()}
    media = _Media(folders, page.resolve().parent, budget)
    # Pictures first, then videos, of all arms in turn: a full budget leaves out the last ones of each.
    wanted = [pair for row in zip_longest(*chosen.values()) for pair in row if pair is not None]
    pictures = {
        pair.arm.key: [media.address(r, r.outcome.thumbnail, "image/jpeg") for r in _sides(pair)]
        for pair in wanted
    }
    videos = {
        pair.arm.key: [media.address(r, r.outcome.video, "video/mp4") for r in _sides(pair)]
        for pair in wanted
    }
    return [
        Gallery(
            name,
            [_disagreement(pair, pictures[pair.arm.key], videos[pair.arm.key]) for pair in pairs],
            len(found[name]),
        )
        for name, pairs in chosen.items()
    ]


class _Media:
    """Files of runs as addresses for a page."""

    def __init__(self, folders: Mapping[EpisodeKey, Path], page_folder: Path, budget: int) -> None:
        self._folders = folders
        self._page_folder = page_folder
        self._left = budget

    def address(self, record: EpisodeRecord, name: str | None, kind: str) -> str | None:
        """Where the page finds a file: in itself while the budget lasts, else beside it; None if it is gone.

        A file that is shown twice is in the page twice, and is paid for twice.
        """
        path = self._path(record, name)
        if path is None:
            return None
        size = 4 * -(-path.stat().st_size // 3)
        if size > self._left:
            return quote(os.path.relpath(path, self._page_folder))
        self._left -= size
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"

    def _path(self, record: EpisodeRecord, name: str | None) -> Path | None:
        if name is None:
            return None
        folder = self._folders[record.key].resolve()
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None


def _sides(pair: Pair) -> tuple[EpisodeRecord, EpisodeRecord]:
    return pair.baseline, pair.arm


def _disagreement(pair: Pair, pictures: Sequence[str | None], videos: Sequence[str | None]) -> Disagreement:
    first, second = (
        Side(
            record.key.arm,
            bool(record.outcome.success),
            record.outcome.steps,
            record.outcome.lifted_wrong,
            picture,
            video,
        )
        for record, picture, video in zip(_sides(pair), pictures, videos, strict=True)
    )
    known = pair.arm
    return Disagreement(
        known.key.suite,
        known.key.task,
        known.conditions.language,
        known.key.init_state,
        known.key.seed,
        (first, second),
    )


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    """In turn from every task, its losses before its wins: the first dozen should not be of one task."""
    tasks: dict[tuple[str, int], list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: bool(pair.arm.outcome.success)):
        tasks.setdefault((pair.arm.key.suite, pair.arm.key.task), []).append(pair)
    rows = zip_longest(*(tasks[key] for key in sorted(tasks)))
    return [pair for row in rows for pair in row if pair is not None]
