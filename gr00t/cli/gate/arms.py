"""What is compared, settled before anything large is read: settings parsed, packs and calibrations known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gr00t.cli.errors import UsageError
from gr00t.cli.gate.arguments import PRECISIONS, DriftArguments
from gr00t.cli.gate.servers import reach
from gr00t.eval.arms.arms import ENVIRONMENT, Arm, parse_arms
from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.hosts import AddressHost
from gr00t.eval.session.server_checks import needs_calibration
from gr00t.eval.session.servers import check_recipe
from gr00t.files.shipped import RECIPES
from gr00t.model.checkpoints import find_manifest
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization.calibration.record import read_record
from gr00t.quantization.settings.environment import DuQuantConfig, settings_in, to_environ, why_not_enabled


@dataclasses.dataclass(frozen=True)
class SettledArm:
    """An arm, and how it is made.

    Attributes:
        arm: as it was named.
        denoising_steps: Euler steps per action chunk.
        config: its settings; None where it is not quantized, or is a server.
        server: where it is served, and what that says of itself; None where it is made here.
        packs: what its calibrated packs say of themselves, where there are some; they are taken as they are.
    """

    arm: Arm
    denoising_steps: int
    config: DuQuantConfig | None = None
    packs: Mapping[str, object] | None = None
    server: tuple[AddressHost, ServerDescription] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether statistics of inputs have to be recorded for it."""
        return self.config is not None and self.packs is None and needs_calibration(self.arm, self.config)


def settle_arms(arguments: DriftArguments, model: str, environ: Mapping[str, str]) -> list[SettledArm]:
    """Return the arms.

    Raises:
        UsageError: the model is quantized already, or an arm does not answer observations, would quantize
            nothing by its settings, or has the name of a row that is there without it.
        ArmError, RecipeError, DuQuantConfigError: there is no such arm, or its settings are wrong.
        UnfinishedCalibrationError: its packs are not complete.
        NoServerError: there is none where an arm is said to be served.
    """
    manifest = find_manifest(model)
    if manifest is not None:
        raise UsageError(
            f"--model {model} is quantized already; give what it was exported from, {manifest.checkpoint}, "
            "and a server of it as an arm"
        )
    arms = parse_arms(arguments.arm_texts, RECIPES, settings_in(environ))
    for arm in arms:
        if arm.name in PRECISIONS:
            raise UsageError(f"--arms: {arm.name} is the row of the policy as it is: call the arm otherwise")
    # A server is waited for: what needs none is found first.
    return [_reached(settled, arguments) for settled in [_settled(arm, arguments) for arm in arms]]


def _reached(settled: SettledArm, arguments: DriftArguments) -> SettledArm:
    if settled.arm.kind != "address":
        return settled
    return dataclasses.replace(settled, server=reach(settled.arm, arguments.api_token))


def _settled(arm: Arm, arguments: DriftArguments) -> SettledArm:
    if arm.kind == "address":
        return SettledArm(arm, arguments.euler_steps)
    if arm.recipe is None:
        raise UsageError(f"--arms: {arm.name} acts in a simulator and answers no observation: leave it out")
    steps = arm.recipe.denoising_steps or arguments.euler_steps
    if check_recipe(arm) is None:
        # The policy as it is would pass, and somebody would believe that it was quantized.
        if (arm.recipe.settings or arm.recipe.name == ENVIRONMENT) and "ENABLE" not in arm.recipe.settings:
            why = why_not_enabled(to_environ(arm.recipe.settings))
            raise UsageError(f"--arms: {arm.name} would quantize nothing: {why}")
        return SettledArm(arm, steps)
    config = DuQuantConfig.from_environ(to_environ(arm.recipe.settings), DEFAULTS)
    assert config is not None
    packs = read_record(config.pack_dir)
    if packs is None:
        # They would be written where the user's own are.
        config = dataclasses.replace(config, pack_dir=None)
    return SettledArm(arm, steps, config, packs)
