"""What came of an allocation: chosen, predicted, measured, and beside as many bits everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gr00t.eval.allocation.budget import bits_per_weight
from gr00t.eval.allocation.greedy import Allocation, Choice

_ERR = """\
err is the geometric mean, over observations, of the relative error of the executed motion against the policy
without quantization, under the same flow noise. Predicted: the root of the sum of the squared errors of the
layers alone."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """An allocation, and the error of the actions with all layers quantized so.

    Attributes:
        what: of it, for people.
        allocation: what each layer gets.
        error: as measured.
    """

    what: str
    allocation: Allocation
    error: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is told, drawn and written of an allocation.

    Attributes:
        name: of its recipe.
        budget: as somebody wrote it.
        budget_bytes: what that is in bytes.
        shapes: outputs and inputs of every layer, in model order.
        choices: of every layer.
        chosen: what was allocated.
        uniform: the same number of bits for every layer, fewest first.
        facts: where the errors come from, as plain data.
        machine: where and when it was measured.
    """

    name: str
    budget: str
    budget_bytes: int
    shapes: Mapping[str, tuple[int, int]]
    choices: Mapping[str, Sequence[Choice]]
    chosen: Measured
    uniform: Sequence[Measured]
    facts: Mapping[str, Any]
    machine: str

    @property
    def weights(self) -> int:
        """How many weights the layers have."""
        return sum(n * k for n, k in self.shapes.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what is chosen, and every choice that there was."""
        allocation = self.chosen.allocation
        return {
            "name": self.name,
            "budget": self.budget,
            "budget_bytes": self.budget_bytes,
            "weights": self.weights,
            "chosen": self._whole(self.chosen),
            "uniform": [self._whole(measured) for measured in self.uniform],
            "layers": {
                name: {
                    "out_features": shape[0],
                    "in_features": shape[1],
                    "bits": allocation.chosen[name].bits,
                    "bytes": allocation.chosen[name].stored,
                    "error": allocation.chosen[name].error,
                    "share": allocation.share(name),
                    "choices": [dataclasses.asdict(choice) for choice in self.choices[name]],
                }
                for name, shape in self.shapes.items()
            },
            "facts": dict(self.facts),
            "machine": self.machine,
        }

    def _whole(self, measured: Measured) -> dict[str, Any]:
        allocation = measured.allocation
        return {
            "what": measured.what,
            "bytes": allocation.stored,
            "bits_per_weight": bits_per_weight(allocation.stored, self.weights),
            "predicted": allocation.predicted,
            "measured": measured.error,
        }


def summary_table(outcome: Outcome) -> str:
    """Return the allocation beside uniform bits, in Markdown."""
    lines = [
        "| bits | bytes | bits per weight | err predicted | err measured |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for measured in sorted((outcome.chosen, *outcome.uniform), key=lambda row: row.allocation.stored):
        allocation = measured.allocation
        bits = bits_per_weight(allocation.stored, outcome.weights)
        lines.append(
            f"| {measured.what} | {allocation.stored:,} | {bits:.3f} | {allocation.predicted:.4f} "
            f"| {measured.error:.4f} |"
        )
    return "\n".join(lines)


def layer_table(outcome: Outcome) -> str:
    """Return what each layer gets, and the error that it alone makes, in Markdown."""
    allocation = outcome.chosen.allocation
    lines = [
        "| layer | shape | bits | bytes | err alone | share of squared err, % |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (n, k) in outcome.shapes.items():
        choice = allocation.chosen[name]
        share = f"{100 * allocation.share(name):.1f}"
        lines.append(
            f"| `{name}` | {k} -> {n} | {choice.bits} | {choice.stored:,} | {choice.error:.5f} | {share} |"
        )
    return "\n".join(lines)


def page(outcome: Outcome) -> str:
    """Return all of it as a page in Markdown, with the drawing `NAME.png` beside it."""
    facts = ", ".join(f"{name} {value}" for name, value in outcome.facts.items())
    parts = (
        f"# {outcome.name}: {outcome.budget} for {len(outcome.shapes)} layers",
        f"{outcome.machine}. {facts}.",
        summary_table(outcome),
        _ERR,
        f"![bits and error of each layer]({outcome.name}.png)",
        layer_table(outcome),
    )
    return "\n\n".join(parts) + "\n"
