"""Whether a policy server is what its arm says, by what it tells of itself."""

from __future__ import annotations

import logging
from pathlib import Path

from gr00t.eval.arms.arms import Arm
from gr00t.eval.arms.facts import QuantizationReport, ServerDescription
from gr00t.libero.tasks.suites import LiberoError
from gr00t.quantization.settings.environment import DuQuantConfig, settings_in

logger = logging.getLogger("gr00t.evaluate")


def packdir_of(report: QuantizationReport) -> Path | None:
    """Where a server that runs already has its packs, by its own report."""
    packdir = settings_in(report.config or {}).get("PACKDIR")
    return Path(packdir) if packdir else None


def needs_calibration(arm: Arm, config: DuQuantConfig) -> bool:
    """Whether packs have to be calibrated before the first episode: evaluated episodes never do it."""
    return (arm.recipe is not None and arm.recipe.calibrate) or config.is_static


def say_what_it_is(arm: Arm, described: ServerDescription) -> None:
    """Log whether an arm's server is quantized, by its own measurement, and whether it could change."""
    if not described.info.get("identity"):
        logger.warning(
            "%s: the server does not tell what it consists of: later it could be another unnoticed",
            arm.name,
        )
    report = described.report
    if not report.enabled:
        logger.info("%s: %s", arm.name, "NOT quantized" if described.quantization else "unknown to us")
        return
    logger.info("%s: %s layers quantized", arm.name, report.layers_quantized)
    if report.linear_bytes is not None:
        logger.info(
            "%s: bytes of these layers %s, before %s; of the whole model %s, before %s",
            arm.name,
            *(
                f"{getattr(report, name):,}"
                for name in ("linear_bytes", "linear_bytes_before", "model_bytes", "model_bytes_before")
            ),
        )


def check_report(arm: Arm, config: DuQuantConfig | None, described: ServerDescription) -> None:
    """Refuse a server that is not what its recipe asks for.

    Raises:
        LiberoError: naming what is different.
    """
    report = described.quantization
    if report is None:
        raise LiberoError(f"arm {arm.name}: its server does not tell whether it is quantized")
    if config is None:
        if report.enabled:
            raise LiberoError(f"arm {arm.name} is not to be quantized, but its server says that it is")
        return
    if not report.enabled or not report.layers_quantized:
        raise LiberoError(f"arm {arm.name} is to be quantized, but its server says that it is not")
    if report.calibrating:
        raise LiberoError(f"arm {arm.name}: its server would calibrate on the episodes that are evaluated")
    # What was exported is calibrated, or it would not have been.
    if needs_calibration(arm, config) and not report.artefact:
        informed = report.layers_informed or 0
        if not informed:
            raise LiberoError(f"arm {arm.name}: its server found no calibrated packs")
        if informed < report.layers_quantized:
            raise LiberoError(
                f"arm {arm.name}: {informed} of its server's {report.layers_quantized} layers are "
                "calibrated; the other packs are missing or damaged, see its log: calibrate anew"
            )
    for name, found, text in config.disagreements(report.config or {}):
        raise LiberoError(f"arm {arm.name}: its server runs with {name}={found!r}, not {text!r}")
