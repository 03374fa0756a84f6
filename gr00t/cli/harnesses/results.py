"""What vla-eval has written down of a run: its own success rate, and what the policy said of itself."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gr00t.eval.arms.checked import Checked, Count
from gr00t.eval.arms.facts import QuantizationReport
from gr00t.libero.tasks.suites import LiberoError
from gr00t.strict_json import parse_json
from gr00t.validation import first_of


class ResultError(LiberoError):
    """A result file is not there, or does not say what is expected of it."""


class PolicyTold(Checked):
    """`server_info`: what the server said when the harness greeted it.

    Attributes:
        quantization: Its report; of a server that is not ours there may be none.
        server: Model, versions, identity.
        replan_steps: How many actions of a chunk are executed.
        noise_seed: What the flow noise of all episodes follows from.
    """

    quantization: QuantizationReport | None = None
    server: dict[str, Any] = Field(default_factory=dict)
    replan_steps: Count | None = None
    noise_seed: int | None = None


class Aggregate(Checked):
    """NAME_aggregate.json of vla-eval 0.8.0.

    Attributes:
        benchmark: Its name.
        harness_version: Of vla-eval.
        mean_success: From 0 to 1, over all episodes.
        num_episodes_total: How many were played.
        num_errors: Of these, how many did not come to their end; they count as failures.
        partial: Whether episodes are missing.
        server_info: See `PolicyTold`.
    """

    benchmark: str
    harness_version: str
    mean_success: float
    num_episodes_total: Count
    num_errors: Count = 0
    partial: bool = False
    server_info: PolicyTold = Field(default_factory=PolicyTold)


@dataclass(frozen=True)
class HarnessResult:
    """A result file and what it says."""

    path: Path
    told: Aggregate

    @property
    def is_complete(self) -> bool:
        """Whether every episode was played to its end."""
        return self.told.num_episodes_total > 0 and not self.told.partial and not self.told.num_errors

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what people want to know of it: a name, and what is said."""
        told, policy = self.told, self.told.server_info
        episodes, rate = told.num_episodes_total, told.mean_success
        missing = f"; {told.num_errors} of them came to no end" if told.num_errors else ""
        missing += "; not all that were asked for" if told.partial else ""
        yield (
            f"vla-eval {told.harness_version}",
            f"success rate {100 * rate:.1f} % of {episodes} episodes{missing}",
        )
        yield "result file", str(self.path)
        yield "  policy", _text(policy.server.get("model_path"))
        identity = policy.server.get("identity")
        yield "  weights, sha256", _text(identity.get("model") if isinstance(identity, dict) else None)
        report = policy.quantization
        if report is None or not report.enabled:
            yield "  quantized", "it does not say" if report is None else "no"
        else:
            kinds = collections.Counter(_text(layer.get("bits")) for layer in report.layers.values())
            yield (
                "  quantized",
                f"{report.layers_quantized} layers: "
                + ", ".join(f"{count} at {bits}" for bits, count in sorted(kinds.items())),
            )
            if report.linear_bytes is not None and report.linear_bytes_before is not None:
                yield "  their bytes", f"{report.linear_bytes:,}, before {report.linear_bytes_before:,}"
            calibrated = f"before it was served, {report.layers_informed} layers by recorded inputs"
            yield "  calibrated", "on these episodes" if report.calibrating else calibrated
        yield (
            "  noise",
            f"seed {_text(policy.noise_seed)}; {_text(policy.replan_steps)} actions of each chunk",
        )


def read_result(path: Path) -> HarnessResult:
    """Read a result file.

    Raises:
        ResultError: It cannot be read, or lacks something.
    """
    try:
        return HarnessResult(path, Aggregate.model_validate(parse_json(path.read_text(encoding="utf-8"))))
    except ValidationError as error:
        raise ResultError(f"{path}: {first_of(error)}") from None
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: {error}") from None


def find_result(folder: Path) -> HarnessResult:
    """Read the result file that a run has left in its folder.

    Raises:
        ResultError: There is none, or there are several.
    """
    found = sorted(folder.glob("*_aggregate.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ResultError(f"{folder}: expected one *_aggregate.json, found {names}")
    return read_result(found[0])


def _text(value: Any) -> str:
    return "it does not say" if value is None else str(value)
