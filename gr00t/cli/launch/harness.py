"""`--harness`: another project's harness plays the policy, and its own result file says what it played.

The policy is calibrated first where its settings have static scales, on initial states from the end of the
suite's list: what is evaluated calibrates nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gr00t.cli.errors import UsageError
from gr00t.cli.harnesses.results import ResultError, find_result
from gr00t.cli.harnesses.setup import LIBERO, harness_run
from gr00t.cli.launch.requests import option_value
from gr00t.eval.arms.server_process import PORT, ServerProcess, free_port, run_tied
from gr00t.files.output_folder import unused_folder
from gr00t.model.checkpoints import find_manifest
from gr00t.processes.ending import say
from gr00t.quantization.calibration.record import UnfinishedCalibrationError, read_record
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ

# vla-eval's default, said here since it warns where nobody says one.
_SEED = 7
# It waits so long for an action: a full-size policy on two cores takes its time for a chunk.
_TIMEOUT_S = 300
_ENDS_SECONDS = 20.0


@dataclass(frozen=True)
class HarnessGame:
    """What is played.

    Attributes:
        suite: LIBERO's.
        model: Folder or hub id.
        model_flags: What the server and the calibration take, besides.
        server_flags: What the server alone takes.
        entry: Further entries of the benchmark in vla-eval's file.
        assets: See `resolve_assets`.
        words: Options of `vla-eval run`.
        port: Where vla-eval finds the policy; None: at a free one.
        keeps_packs: Whether packs belong to the run, not to the folder that the settings name.
    """

    suite: str
    model: str
    model_flags: Sequence[str]
    server_flags: Sequence[str] = ()
    entry: Mapping[str, Any] = field(default_factory=dict)
    assets: str = "auto"
    words: Sequence[str] = ()
    port: int | None = None
    keeps_packs: bool = False


def play(game: HarnessGame, environ: Mapping[str, str]) -> int:
    """Calibrate if need be, serve, let vla-eval play, tell what its result file says; return the status."""
    with ExitStack() as stack:
        given = option_value("--output-dir", game.words)
        wanted = Path("runs") / f"vla-eval-{datetime.now():%Y%m%d-%H%M%S}"
        folder = Path(given) if given else stack.enter_context(unused_folder(wanted, "-- --output-dir"))
        folder.mkdir(parents=True, exist_ok=True)
        if game.keeps_packs:
            environ = {**environ, **to_environ({"PACKDIR": str(folder / "packs")})}
        port = game.port or free_port()
        config = folder / "vla-eval.yaml"
        config.write_text(_config(game, port, folder), encoding="utf-8")
        # What keeps the harness from starting is told before minutes of calibration.
        run = harness_run(config, game.words, environ, assets=game.assets)
        print(f"{'assets':<22}{run.assets}\n{'folder':<22}{folder}", flush=True)
        status = _calibrated(game, environ)
        if status:
            return status
        print("Starting the policy server", flush=True)
        server = ServerProcess(_server(game, port), environ, folder / "server.log")
        stack.callback(server.close)
        server.start()
        print(f"vla-eval plays {game.suite} against ws://127.0.0.1:{port}", flush=True)
        status = run_tied(run.program, run.environ, patience_s=_ENDS_SECONDS)
        if status:
            say(f"error: vla-eval ended with status {status}; the server's log: {folder / 'server.log'}")
            return status
        return _tell(folder, DuQuantConfig.from_environ(environ) is not None)


def _config(game: HarnessGame, port: int, folder: Path) -> str:
    """Return vla-eval's file. JSON is YAML."""
    entry = {"benchmark": LIBERO, **game.entry, "params": {"suite": game.suite, "seed": _SEED}}
    server = {"url": f"ws://127.0.0.1:{port}", "timeout": _TIMEOUT_S}
    return json.dumps({"server": server, "output_dir": str(folder), "benchmarks": [entry]}, indent=2) + "\n"


def _calibrated(game: HarnessGame, environ: Mapping[str, str]) -> int:
    """Calibrate where that is needed and nobody has; return the status."""
    config = DuQuantConfig.from_environ(environ)
    if config is None or not config.is_static or find_manifest(game.model) is not None:
        return 0
    if config.pack_dir is None:
        raise UsageError("GR00T_DUQUANT_PACKDIR is empty: a harness needs packs that were calibrated before")
    try:
        found = read_record(config.pack_dir)
    except UnfinishedCalibrationError as error:
        print(error)
        found = None
    if found is not None:
        print(f"{'calibrated':<22}{found.get('date')}, packs in {config.pack_dir}", flush=True)
        return 0
    print(f"Calibrating on initial states that are not played, packs to {config.pack_dir}", flush=True)
    program = ["-m", "gr00t.cli.calibrate", "--model-path", game.model, *game.model_flags]
    return run_tied([*program, "--libero", game.suite, "--assets", game.assets], environ)


def _server(game: HarnessGame, port: int) -> list[str]:
    wires = f"n1_5:{PORT},vla-eval:{port}"  # the first is asked whether it is there
    program = ["-m", "gr00t.cli.serve", "--server", "--model-path", game.model, *game.model_flags]
    return [*program, "--host", "127.0.0.1", "--wire", wires, *game.server_flags]


def _tell(folder: Path, is_quantized: bool) -> int:
    """Print what the result file says; return 1 where that is not what was asked for."""
    result = find_result(folder)
    print()
    for name, text in result.lines():
        print(f"{name:<22}{text}")
    report = result.told.server_info.quantization
    if is_quantized and (report is None or not report.enabled or not report.layers_quantized):
        raise ResultError(f"{result.path}: it does not say that the policy was quantized")
    if is_quantized and report is not None and report.calibrating:
        raise ResultError(f"{result.path}: the policy calibrated on the episodes that were played")
    return 0 if result.is_complete else 1
