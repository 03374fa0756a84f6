"""The answers of the base and of each arm: one policy after the other is loaded, quantized and asked."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gr00t.cli.calibration.requests import Recorded, record, replay, spread
from gr00t.cli.calibration.sources import PolicyInProcess, progress, request_seed
from gr00t.cli.gate.apart import check_calibrated_apart
from gr00t.cli.gate.arguments import DriftArguments
from gr00t.cli.gate.arms import SettledArm
from gr00t.cli.gate.loading import UNQUANTIZED, check_quantized, load, taken_layers
from gr00t.cli.gate.material import Material
from gr00t.eval.arms.recipes import GREY
from gr00t.eval.drift.chunks import Asked, Chunks, DriftError, answer_all
from gr00t.eval.rollout.agents import GreyPolicy
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ

if TYPE_CHECKING:
    from torch import nn

    from gr00t.model.policy import Gr00tPolicy

# Of a server's answer to the same observation under the same seed: what its arithmetic may do, and no noise.
_SAME = 0.01


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a policy answered, and what it was.

    Attributes:
        chunks: its answers.
        quantization: its report, or a server's; `{"enabled": False}` where nothing is quantized, empty
            where a server does not tell.
        calibrated: by what, for people; empty where by nothing.
    """

    chunks: Chunks
    quantization: Mapping[str, Any]
    calibrated: str = ""


class Asking:
    """Asks policies the same observations under the same noise.

    Args:
        arguments: of the command line.
        model: the checkpoint.
        material: the observations.
        arms: all of them; statistics are recorded of the layers that any of them takes.
        environ: whose compiler and cache the kernels come from.
    """

    def __init__(
        self,
        arguments: DriftArguments,
        model: str,
        material: Material,
        arms: Sequence[SettledArm],
        environ: Mapping[str, str],
    ) -> None:
        self._arguments, self._model, self._material, self._arms = arguments, model, material, arms
        self._environ = environ
        # By denoising steps, those of the latest: a set of them is gigabytes.
        self._recorded: dict[int, Recorded] = {}

    def base(self) -> Answers:
        """The answers of the policy as it is, in the reference's precision."""
        policy = load(self._arguments, self._model, self._arguments.reference)
        return Answers(self._ask(PolicyInProcess(policy), self._arguments.reference), {"enabled": False})

    def unquantized(self, policy: Gr00tPolicy) -> Answers:
        """The answers of a policy in the arms' precision, which is loaded already."""
        return Answers(self._ask(PolicyInProcess(policy), self._arguments.dtype), {"enabled": False})

    def arm(self, settled: SettledArm) -> Answers:
        """The answers of an arm.

        Raises:
            DriftError, ServerChangedError: it is not what it is called.
            ValueError: its layers cannot be quantized; see `gr00t.quantization.quantize_`.
        """
        if settled.arm.kind == "address":
            return self._server(settled)
        recipe = settled.arm.recipe
        assert recipe is not None
        as_it_is = settled.packs is not None
        environ = to_environ(recipe.settings) if as_it_is else UNQUANTIZED
        policy = load(self._arguments, self._model, self._arguments.dtype, settled.denoising_steps, environ)
        calibrated = ""
        if settled.packs is not None:
            calibrated = f"packs of {settled.packs.get('date')} ({settled.packs.get('observations')})"
        elif settled.config is not None:
            calibrated = self._quantize(policy, settled, settled.config)
        report = policy.quantization_report()
        check_quantized(settled, report)
        asked: Asked = PolicyInProcess(policy)
        if recipe.images == GREY:
            asked = GreyPolicy(PolicyInProcess(policy))
        return Answers(self._ask(asked, settled.arm.name), report, calibrated)

    def _quantize(self, policy: Gr00tPolicy, settled: SettledArm, config: DuQuantConfig) -> str:
        """Quantize as a calibration does; return what it was calibrated by."""
        from gr00t.model.checkpoint.folder import module_aliases
        from gr00t.quantization import quantize_

        recorded = self._record(policy, settled.denoising_steps) if settled.is_recorded else None
        policy.model.to("cpu")
        policy.quantization = quantize_(
            policy.model,
            config.scheme,
            config.layer_filter,
            statistics=None if recorded is None else recorded.statistics,
            runtime=dataclasses.replace(config.runtime, kernels=self._environ),
            aliases=module_aliases(policy.model),
        )
        policy.model.to(policy.device)
        policy.quantization.check_backends()
        if recorded is None:
            return ""
        requests = spread(recorded.replayed, config.calibration_steps)
        if policy.quantization.pools_requests:
            replay(policy, policy.quantization, requests, self._calibration_seed)
        return f"{len(self._material.recorded)} requests ({self._material.recorded_where})"

    def _record(self, policy: Gr00tPolicy, denoising_steps: int) -> Recorded:
        """Statistics of all layers that an arm of so many steps takes, recorded once."""
        if denoising_steps not in self._recorded:
            self._recorded.clear()
            layers: dict[str, nn.Linear] = {}
            for settled in self._arms:
                if settled.is_recorded and settled.denoising_steps == denoising_steps:
                    layers |= taken_layers(policy, settled)
            count = len(self._material.recorded)
            self._recorded[denoising_steps] = record(
                policy,
                layers,
                self._material.recorded,
                requests=count,
                replays=count,
                seed=self._calibration_seed,
            )
        return self._recorded[denoising_steps]

    def _server(self, settled: SettledArm) -> Answers:
        """The answers of a server, if it answers by a seed."""
        arm = settled.arm
        assert settled.server is not None
        host, described = settled.server
        if described.report.layers_informed:
            exported = described.report.artefact or {}
            check_calibrated_apart(arm.name, exported.get("calibration"), self._material.judged)
        with contextlib.closing(host.connect()) as client:
            first = self._material.judged.observations[:1]
            with named(arm.name):
                twice = answer_all(client, first * 2, self._seeds[:1] * 2).values
            if np.linalg.norm(twice[1] - twice[0]) > _SAME * np.linalg.norm(twice[0]):
                raise DriftError(
                    f"{arm.name}: the server answers one observation under one seed in two ways: its noise "
                    "would be taken for drift"
                )
            chunks = self._ask(client, arm.name)
            host.confirm(client)
        told = described.quantization
        return Answers(chunks, {} if told is None else told.model_dump())

    @property
    def _calibration_seed(self) -> int:
        # Nothing is judged under the noise that it was calibrated under.
        return self._arguments.seed + 1

    @property
    def _seeds(self) -> list[int]:
        return [
            request_seed(self._arguments.seed, index)
            for index in range(len(self._material.judged.observations))
        ]

    def _ask(self, policy: Asked, name: str) -> Chunks:
        observations = self._material.judged.observations
        with progress(name, len(observations)) as bar, named(name):
            return answer_all(policy, observations, self._seeds, bar.update)


@contextlib.contextmanager
def named(arm: str) -> Iterator[None]:
    """Say of which arm it is what does not fit."""
    try:
        yield
    except DriftError as error:
        raise DriftError(f"{arm}: {error}") from error
