"""What a policy server says of itself, and what an arm turned out to be."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gr00t.eval.arms.checked import Checked, Count, Positive

Kind = Literal["recipe", "address", "zero", "replay", "expert"]


class QuantizationReport(Checked):
    """What a server says of its quantization, measured by itself; None stands for what it does not tell.

    Attributes:
        enabled: Whether anything is quantized.
        layers: Bits, kernels and more of every layer, by its name.
        layers_quantized: How many there are.
        layers_informed: Of these, those that were calibrated.
        calibrating: Whether it still calibrates on what it is asked.
        config: The settings in force, by their variables.
        artefact: What it was exported by, if it was.
        linear_bytes: Bytes of the quantized layers now.
        linear_bytes_before: And before.
        model_bytes: Bytes of the whole model now.
        model_bytes_before: And before.
    """

    enabled: bool = False
    layers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    layers_quantized: Count | None = None
    layers_informed: Count | None = None
    calibrating: bool = False
    config: dict[str, Any] | None = None
    artefact: dict[str, Any] | None = None
    linear_bytes: Count | None = None
    linear_bytes_before: Count | None = None
    model_bytes: Count | None = None
    model_bytes_before: Count | None = None

    @property
    def hashes(self) -> dict[str, Any]:
        """Hashes of the layers that are served, wherever they came from."""
        return {name: value for name, value in (self.model_extra or {}).items() if name.endswith("sha256")}


class ServerDescription(Checked):
    """What a policy server says of itself, each None where it does not say.

    Attributes:
        quantization: Its report.
        server: Model, versions, identity.
    """

    quantization: QuantizationReport | None = None
    server: dict[str, Any] | None = None

    @property
    def report(self) -> QuantizationReport:
        """Its report, or that of a server which quantizes nothing that we know of."""
        return self.quantization or QuantizationReport()

    @property
    def info(self) -> dict[str, Any]:
        """What it says of itself, or nothing."""
        return self.server or {}


class ArmFacts(Checked):
    """What an arm turned out to be, `arms/NAME.json`; None stands for what is not known of it.

    Attributes:
        name: Of the arm.
        kind: What acts.
        description: Of its recipe.
        recipe: Name of its recipe.
        denoising_steps: Of the policy.
        calibrate: Whether its recipe wants statistics of real inputs.
        images: What it is shown, by its recipe.
        settings: Of the quantization.
        noise: On the motions of an expert.
        checkpoint: `model`, `folder` and `sha256`.
        quantized_layers: How many there are.
        quantization: What its server says of it.
        server: Its address, or what stands in its place.
        server_info: What it says of itself.
        calibration: What its statistics were recorded from.
        machine: That started it.
        identity: All that decides its answers, by name.
    """

    name: str
    kind: Kind
    description: str = ""
    recipe: str | None = None
    denoising_steps: Positive | None = None
    calibrate: bool = False
    images: str = ""
    settings: dict[str, Any] | None = None
    noise: float | None = None
    checkpoint: dict[str, Any] | None = None
    quantized_layers: Count | None = None
    quantization: QuantizationReport | None = None
    server: str = ""
    server_info: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    machine: str | None = None
    identity: dict[str, Any] | None = None
