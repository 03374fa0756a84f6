"""From the name of an arm to something that acts: servers started, calibrated, and looked at first."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gr00t.eval.arms.arms import Arm
from gr00t.eval.arms.facts import ArmFacts, QuantizationReport, ServerDescription
from gr00t.eval.arms.hosts import AddressHost, StartedHost
from gr00t.eval.arms.published import suite_model
from gr00t.eval.arms.server_process import ServerProcess, last_lines, run_tied
from gr00t.eval.rollout.agents import Agent, Expert, PolicyAgent, PolicyHost, Replay, Zero
from gr00t.eval.rollout.collect import collect_observations
from gr00t.eval.rollout.plan import EvalPlan, check_not_calibrated_on
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.session import artefacts, identities, servers
from gr00t.eval.session.options import EvaluationOptions
from gr00t.eval.session.server_checks import check_report, needs_calibration, packdir_of, say_what_it_is
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks
from gr00t.machine import describe_host
from gr00t.quantization.calibration.record import UnfinishedCalibrationError, read_record
from gr00t.quantization.settings.environment import settings_in

logger = logging.getLogger("gr00t.evaluate")


class CalibrationFailedError(LiberoError):
    """An arm could not be calibrated; the message holds the program's last words."""


@dataclasses.dataclass(frozen=True)
class ReadyArm:
    """An arm that can play.

    Attributes:
        make_agent: Makes what acts, once for each simulator.
        facts: What `arms/NAME.json` says.
    """

    make_agent: Callable[[], Agent]
    facts: ArmFacts


@dataclasses.dataclass(frozen=True)
class ArmSetup:
    """What preparing an arm takes, the same for all of a run.

    Attributes:
        options: The command line.
        plan: What is to be played.
        folder: Of the run.
        environ: The environment variables.
        simulators: How simulators are made, for calibrations.
        start_servers: With a cluster: starts a recipe's servers there, and returns their host and what one of
            them says of itself.
    """

    options: EvaluationOptions
    plan: EvalPlan
    folder: RunFolder
    environ: Mapping[str, str]
    simulators: SimulatorSetup
    start_servers: Callable[..., tuple[PolicyHost, ServerDescription]] | None = None

    def prepare(self, arm: Arm, closing: contextlib.ExitStack) -> ReadyArm:
        """Make an arm ready; what has to be ended after it goes to `closing`.

        Raises:
            LiberoError: it is not what it is called: not quantized, calibrated on what is evaluated, changed.
        """
        if arm.kind == "recipe":
            prepared = self._recipe(arm, closing)
        elif arm.kind == "address":
            prepared = self._address(arm)
        else:
            makers: dict[str, Callable[[], Agent]] = {
                "zero": Zero,
                "replay": Replay,
                "expert": functools.partial(Expert, arm.noise),
            }
            prepared = ReadyArm(makers[arm.kind], self._facts(arm, server=f"none, {arm.kind}"))
        assert prepared.facts.identity is not None
        identities.check_unchanged(self.folder, arm.name, prepared.facts.identity)
        identities.keep_sources(self.folder)
        self.folder.describe_arm(prepared.facts)
        return prepared

    def _recipe(self, arm: Arm, closing: contextlib.ExitStack) -> ReadyArm:
        assert arm.recipe is not None
        model = self.options.model or suite_model(self.plan.suite.name)
        config, artefact = artefacts.settle_recipe(arm, model)
        servers.checkpoint_folder(model)
        packdir = None if config is None else config.pack_dir
        calibration = None
        if artefact is not None:
            calibration = artefact.calibration
            self._check_states(arm, calibration)
        elif config is not None and needs_calibration(arm, config):
            packdir = packdir or self.folder.path / "packs" / arm.name
            calibration = self._calibrated(arm, packdir)
            self._check_states(arm, calibration)
        environ = servers.server_environ(self.environ, arm.recipe, packdir)
        log = self.folder.log_path("servers", arm.name)
        program = servers.server_program(self.options, self.plan.suite, arm.recipe)
        logger.info("%s: starting its policy server (log: %s)", arm.name, log)
        if self.start_servers is not None:
            host, described = self.start_servers(program, environ, log, closing)
        else:
            started = StartedHost(ServerProcess(program, environ, log))
            closing.callback(started.close)
            started.start()
            described = started.describe()
            started.remember(described)
            host = started
        check_report(arm, config, described)
        say_what_it_is(arm, described)
        facts = self._facts(
            arm,
            described=described,
            server="started by the run",
            checkpoint=servers.checkpoint_facts(model, described),
            denoising_steps=arm.recipe.denoising_steps or self.options.denoising_steps,
            calibration=calibration,
            settings=dict(arm.recipe.settings),
            packdir=packdir,
        )
        return ReadyArm(functools.partial(PolicyAgent, host, arm.recipe.images), facts)

    def _address(self, arm: Arm) -> ReadyArm:
        host = AddressHost(arm.host, arm.port, self.options.api_token, self.options.wait)
        host.start()
        described = host.describe()
        calibration = None
        report = described.quantization
        if report is None:
            logger.warning("%s: the server does not tell whether it is quantized", arm.name)
        elif report.calibrating:
            calibration = self._calibrate_running(arm, host, report)
            described = host.describe()
            if described.report.calibrating:
                raise LiberoError(
                    f"{arm.name}: the server at {host.address} still calibrates after "
                    f"{calibration['requests']} requests; restart it from packs of scripts/calibrate.py"
                )
        elif report.enabled:
            calibration = read_record(packdir_of(report))
            if report.artefact:
                calibration = report.artefact.get("calibration")
        self._check_states(arm, calibration)
        host.remember(described)
        say_what_it_is(arm, described)
        info = described.info
        facts = self._facts(
            arm,
            described=described,
            server=host.address,
            denoising_steps=info.get("denoising_steps"),
            checkpoint={
                "model": info.get("model_path"),
                "folder": None,
                "sha256": (info.get("identity") or {}).get("model"),
            },
            calibration=calibration,
            settings=described.report.config,
            packdir=packdir_of(described.report),
        )
        return ReadyArm(functools.partial(PolicyAgent, host), facts)

    def _facts(
        self,
        arm: Arm,
        *,
        server: str,
        described: ServerDescription | None = None,
        checkpoint: Mapping[str, Any] | None = None,
        denoising_steps: int | None = None,
        calibration: Mapping[str, Any] | None = None,
        settings: Mapping[str, str] | None = None,
        packdir: Path | None = None,
    ) -> ArmFacts:
        described = described or ServerDescription()
        report = described.quantization
        layers = None if report is None else report.layers_quantized or 0
        facts = ArmFacts.model_validate(
            {
                "name": arm.name,
                "kind": arm.kind,
                "description": arm.recipe.description if arm.recipe else "",
                "recipe": arm.recipe.name if arm.recipe else None,
                **arm.definition(),
                "settings": settings,
                "checkpoint": checkpoint,
                "denoising_steps": denoising_steps,
                "quantized_layers": layers,
                "quantization": report,
                "server": server,
                "server_info": described.server,
                "calibration": calibration,
                "machine": describe_host(),
            }
        )
        return facts.model_copy(update={"identity": identities.arm_identity(facts, packdir)})

    def _calibrated(self, arm: Arm, packdir: Path) -> dict[str, Any]:
        """Return what the packs of a folder were calibrated from; calibrate if they were not."""
        try:
            found = read_record(packdir)
        except UnfinishedCalibrationError as error:
            logger.info("%s: %s", arm.name, error)
            found = None
        if found is not None:
            logger.info("%s: calibrated packs of %s from %s", arm.name, found.get("date"), packdir)
            return found
        assert arm.recipe is not None
        log = self.folder.log_path("servers", f"{arm.name}-calibration")
        logger.info(
            "%s: calibrating on initial states that are not evaluated, packs to %s (log: %s)",
            arm.name,
            packdir,
            log,
        )
        program = servers.calibration_program(
            self.options, self.plan.suite, arm.recipe, packdir, self.simulators.backend
        )
        status = run_tied(program, servers.server_environ(self.environ, arm.recipe, packdir), log)
        if status:
            last = last_lines(log, 5)
            raise CalibrationFailedError(f"{arm.name}: scripts/calibrate.py ended with {status}:\n  {last}")
        made = read_record(packdir)
        if made is None:
            raise CalibrationFailedError(f"{arm.name}: scripts/calibrate.py left no record in {packdir}")
        return made

    def _calibrate_running(self, arm: Arm, host: AddressHost, report: QuantizationReport) -> dict[str, Any]:
        """Drive the robot by a server that calibrates on what it serves, until it has seen enough."""
        requests = int(settings_in(report.config or {})["CALIB_STEPS"])
        logger.info(
            "%s: the server at %s calibrates on what it is asked: %d requests, on initial states that are "
            "not evaluated",
            arm.name,
            host.address,
            requests,
        )
        suite = find_suite(self.plan.suite.base)
        tasks = load_tasks(suite, libero_package())
        simulator = self.simulators.make(f"calibration-{arm.name}")
        try:
            with host.connect() as client:
                collection = collect_observations(
                    simulator,
                    client,  # type: ignore[arg-type]
                    tasks,
                    requests,
                    seed=self.plan.seed,
                    max_steps=self.plan.step_limit,
                    replan_steps=self.plan.replan_steps,
                )
        finally:
            simulator.close()
        states = {str(task): found for task, found in collection.init_states.items()}
        source = {"kind": f"rollouts in {suite.name}, as served", "suite": suite.name}
        return {"requests": requests, "source": {**source, "init_states_by_task": states}}

    def _check_states(self, arm: Arm, calibration: Mapping[str, Any] | None) -> None:
        source = (calibration or {}).get("source", {})
        if source.get("suite") == self.plan.suite.name:
            used = {int(task): states for task, states in source["init_states_by_task"].items()}
            check_not_calibrated_on(self.plan, used, f"arm {arm.name}")
