"""What the policies of a run see: LIBERO's own meshes and textures, or stand-ins, which only ours knows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gr00t.eval.arms.arms import Arm
from gr00t.eval.session.options import EvaluationOptions
from gr00t.files.shipped import DEMO_POLICY
from gr00t.libero.assets.location import Assets, set_up_assets
from gr00t.libero.tasks.suites import Suite, libero_package

logger = logging.getLogger("gr00t.evaluate")


def settle_assets(
    options: EvaluationOptions,
    suite: Suite,
    arms: Sequence[Arm],
    environ: Mapping[str, str],
    agree: Callable[[str], bool] | None,
) -> EvaluationOptions:
    """Install LIBERO's own assets for policies that need them; return the options with what was decided.

    A run that goes on keeps to what it began with, and without `agree` nothing is installed.
    """
    goes_on = options.output is not None and (options.output / "plan.json").exists()
    if agree is None or goes_on or not seeing(options, arms):
        return options
    choice = set_up_assets(
        suite, package=libero_package(), environ=environ, choice=options.assets, agree=agree
    )
    return dataclasses.replace(options, assets=choice)


def keep_to(
    found: Assets, options: EvaluationOptions, arms: Sequence[Arm], environ: Mapping[str, str]
) -> EvaluationOptions:
    """Say where policies see stand-ins that nobody has asked for; what calibrates for them sees the same."""
    if found.kind != "stand-ins" or options.assets == "stand-ins":
        return options
    if not environ.get("LIBERO_ASSETS") and (names := seeing(options, arms)):
        logger.warning(
            "%s: the cameras see stand-ins, not LIBERO's own looks. How often a policy succeeds that was "
            "trained on those cannot be told this way; to have them: --assets packages",
            ", ".join(names),
        )
    return dataclasses.replace(options, assets="stand-ins")


def seeing(options: EvaluationOptions, arms: Sequence[Arm]) -> list[str]:
    """Names of the arms that expect LIBERO's own looks: no controls, nor the policy of this repository."""
    is_demo = (
        options.model is not None and Path(options.model).expanduser().resolve() == DEMO_POLICY.resolve()
    )
    return [arm.name for arm in arms if arm.kind == "address" or (arm.kind == "recipe" and not is_demo)]
