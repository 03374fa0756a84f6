"""The operators of PyTorch that take the most of a request's time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile

_LISTED = 10


class Operator(NamedTuple):
    """One operator, all of its calls together.

    Attributes:
        name: as PyTorch has it; `aten::addmm` and `aten::mm` are `nn.Linear` with and without a bias.
        calls: how many.
        self_ms: CPU milliseconds in it, without the operators that it calls.
        share: of the CPU time of all operators.
    """

    name: str
    calls: int
    self_ms: float
    share: float


def costliest(call: Callable[[], Any], listed: int = _LISTED) -> list[Operator]:
    """Make one call and return the operators that took the most time of their own, the costliest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    entries = profiler.key_averages()
    total = sum(entry.self_cpu_time_total for entry in entries) or 1
    entries = sorted(entries, key=lambda entry: entry.self_cpu_time_total, reverse=True)
    return [
        Operator(entry.key, entry.count, entry.self_cpu_time_total / 1e3, entry.self_cpu_time_total / total)
        for entry in entries[:listed]
    ]


def operator_table(name: str, operators: list[Operator], steps: int) -> str:
    """One arm's operators, as Markdown."""
    lines = [f"| {name}, {steps} steps | calls | ms | share |", "| --- " * 4 + "|"]
    lines += [f"| `{op.name}` | {op.calls} | {op.self_ms:.0f} | {100 * op.share:.1f} % |" for op in operators]
    return "\n".join(lines)
