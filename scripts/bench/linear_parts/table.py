"""What the benchmark of one layer prints for people: a block per layer, a line per number of rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

Row = dict[str, float | int | str | None]

# How many times faster than the first the second one is. The first three stand in every line.
RATIOS = (
    *(("bf16", "fake"), ("bf16", "integer"), ("packed", "integer"), ("packed", "fake")),
    *(("bf16", "packed"), ("bf16", "onednn"), ("bf16", "torch")),
    *((f"w{bits}", "integer") for bits in (2, 3, 5, 6, 7, 8)),
)
_SHOWN = RATIOS[:3]
PARTS = ("prologue", "accumulate", "epilogue")


def ratio_name(pair: tuple[str, str]) -> str:
    """Return what a ratio is called in a row."""
    return f"{pair[0]}_over_{pair[1]}"


def heading(names: Iterable[str], with_parts: bool) -> str:
    """Return the line above all blocks: microseconds by kind, ratios, the roofline, the parts' shares."""
    names = list(names)
    us = "".join(f"{name:>9}" for name in names)
    ratios = "".join(f"{f'{a}/{b}':>16}" for a, b in _SHOWN if a in names)
    shares = "".join(f"{name:>11}" for name in PARTS) if with_parts else ""
    return f"{'M':>5}{us}{ratios}{'GOP/s':>8}{'roof':>6}{shares}{'SQNR dB':>9}"


def line(row: Row, names: Iterable[str], with_parts: bool) -> str:
    """Return the line of one row."""
    names = list(names)
    us = "".join(f"{row[f'{name}_us']:>9.0f}" for name in names)
    ratios = "".join(f"{row[ratio_name(pair)]:>16.2f}" for pair in _SHOWN if pair[0] in names)
    roof = "" if row["roofline_share"] is None else f"{row['roofline_share']:.2f}"
    shares = "".join(f"{row[f'{name}_share']:>11.2f}" for name in PARTS) if with_parts else ""
    return f"{row['m']:>5}{us}{ratios}{row['gops']:>8.0f}{roof:>6}{shares}{row['sqnr_db']:>9.1f}"


def mean_by_rows(rows: Iterable[Mapping[str, object]], name: str) -> dict[int, float]:
    """Return the geometric mean over the layers, by M; empty where the ratio was not measured."""
    found: dict[int, list[float]] = {}
    for row in rows:
        value, m = row.get(name), row["m"]
        if isinstance(value, float) and isinstance(m, int):
            found.setdefault(m, []).append(value)
    return {m: round(statistics.geometric_mean(values), 3) for m, values in found.items()}


def means(speedups: Mapping[str, Mapping[int, float]]) -> str:
    """Return the geometric means as a table: a line per ratio, a column per M."""
    rows = list(next(iter(speedups.values())))
    lines = [f"{'geometric means':<26}" + "".join(f"{f'M={m}':>9}" for m in rows)]
    for name, by_rows in speedups.items():
        lines.append(f"{name:<26}" + "".join(f"{by_rows[m]:>9.2f}" for m in rows))
    return "\n".join(lines)
