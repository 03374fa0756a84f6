"""What a script was asked for, done: list the layers, serve, evaluate, show the demo."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from gr00t.cli.launch.requests import (
    DEFAULT_PORT,
    DryRunRequest,
    EvaluateRequest,
    QuantizedRequest,
    Request,
    ServeRequest,
    option_value,
)
from gr00t.cli.running import confirmed, is_attended
from gr00t.eval.arms.published import suite_data_config, suite_model
from gr00t.eval.arms.recipes import load_recipe
from gr00t.eval.arms.server_process import (
    ServerEndedError,
    ServerProcess,
    run_tied,
)
from gr00t.files.output_folder import unused_folder
from gr00t.files.shipped import RECIPES
from gr00t.libero.tasks.suites import find_suite, libero_package
from gr00t.processes.ending import say
from gr00t.quantization.settings.environment import settings_in, to_environ

DENOISING_STEPS = 8
# The demo: five instructions in one scene, the objects somewhere else in every episode, so that a policy that
# succeeds has read and looked. It was trained on the stand-ins.
DEMO_SUITE = "libero_object_prompts"
DEMO_POLICY = "examples/Libero/demo_policy"
DEMO_DATA_CONFIG = "examples.Libero.demo_data_config:DemoDataConfig"
DEMO_OPTIONS = (
    *("--arms", "bf16,w4a8=environment,replay", "--placement", "wide", "--trials", "2"),
    *("--assets", "stand-ins", "--workers", "2", "--data-config", DEMO_DATA_CONFIG),
)
# The five instructions are this project's own; a harness knows LIBERO's. Some minutes on two cores.
DEMO_HARNESS_SUITE = "libero_object"
DEMO_HARNESS_ENTRY = {"max_tasks": 3, "episodes_per_task": 2}
HARNESS_ENTRY = {"episodes_per_task": 10}
_EVALUATE = "scripts/evaluate.py"
# An evaluation that is stopped writes down what it has.
_EVALUATION_ENDS_SECONDS = 40.0


def do(request: Request, environ: Mapping[str, str]) -> int:
    """Do what a script was asked for; return the exit status, if this process is still there then."""
    if isinstance(request, ServeRequest):
        model = request.model or suite_model(request.suite)
        # A later --port wins over the default one.
        return _become([*server_program(model, request.suite, DEFAULT_PORT), *request.options], environ)
    if isinstance(request, EvaluateRequest):
        # A video per episode, as documented; a later --video wins.
        return _become([_EVALUATE, "--suite", request.suite, "--video", "all", *request.options], environ)
    if isinstance(request, DryRunRequest):
        return _become(list_program(request.model), with_documented(environ))
    return _quantized(request, environ)


def server_program(model: str, suite: str, port: int) -> list[str]:
    """Return the documented command that serves a suite's policy, without the interpreter."""
    return [
        *("scripts/inference_service.py", "--model_path", model, "--server"),
        *("--data_config", suite_data_config(suite), "--denoising-steps", str(DENOISING_STEPS)),
        *("--port", str(port), "--embodiment-tag", "new_embodiment"),
    ]


def list_program(model: str) -> list[str]:
    """Return the command that lists the layers, without the interpreter."""
    return ["scripts/scan_linear_layers.py", "--dry-run", *(["--model-path", model] if model else [])]


def with_documented(environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return `environ` with the documented W4A8 settings, and `more`; what was exported wins."""
    documented = load_recipe(RECIPES / "w4a8.toml").settings
    return {**to_environ({**documented, **more}), **environ}


def _quantized(request: QuantizedRequest, before: Mapping[str, str]) -> int:
    """Show what is asked for, list the layers, ask, and serve or evaluate."""
    suite, model = request.suite, request.model or suite_model(request.suite)
    if request.is_demo:
        # Nothing may be fetched. Quantized anew each time, since that is what it shows.
        suite = DEMO_HARNESS_SUITE if request.harness else DEMO_SUITE
        model, before = DEMO_POLICY, {**before, "HF_HUB_OFFLINE": "1"}
        environ = with_documented(before, PACKDIR="")
    else:
        # A folder per model: a pack belongs to one set of weights, those of suites would be overwritten.
        environ = with_documented(before, PACKDIR=f"duquant_packed_llm_dit_w4a8/{Path(model).name}")
    show(
        before,
        environ,
        {
            "suite": suite,
            "model": model,
            "data config": DEMO_DATA_CONFIG if request.is_demo else suite_data_config(suite),
            "denoising steps": str(DENOISING_STEPS),
            "port": str(request.port or "a free one"),
            **({"harness": request.harness} if request.harness else {}),
        },
    )
    status = run_tied(list_program(model), {**environ, **to_environ({"DRYRUN": "1"})})
    if status:
        return status
    if settings_in(environ).get("DRYRUN") in ("1", "true", "yes", "on"):
        print("GR00T_DUQUANT_DRYRUN is set: nothing is served.")
        return 0
    asks = not request.assumes_yes and is_attended(environ)
    if asks and not confirmed("Start the quantized server?"):
        print("Nothing was started.")
        return 0
    if request.harness:
        return _in_harness(request, suite, model, environ)
    if request.is_demo:
        return _demo([*DEMO_OPTIONS, *request.evaluation], request, environ)
    # The manual recipe has it on: every Linear is logged with the reason why it was taken or left.
    environ = {**to_environ({"DEBUG": "1"}), **environ}
    if request.evaluates:
        told = ["--yes"] if request.assumes_yes else []
        return _become(_evaluation(suite, model, request, ["--arms", "w4a8=environment", *told]), environ)
    assert request.port is not None
    return serve(
        [*server_program(model, suite, request.port), *request.server_options], environ, suite, request.port
    )


def show(before: Mapping[str, str], environ: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Print what is about to be done, every setting in force, and which of them were exported before."""
    print("GR00T N1.5, DuQuant W4A8")
    for name, text in facts.items():
        print(f"  {name:<20} {text}")
    for name in sorted(to_environ(settings_in(environ))):
        print(f"  {name}={environ[name]}{'   (from your environment)' if name in before else ''}")
    print(flush=True)


def serve(program: Sequence[str], environ: Mapping[str, str], suite: str, port: int) -> int:
    """Serve until the server ends, or this program is told to end; return the server's exit status."""
    server = ServerProcess(program, environ, port=port)
    started = time.monotonic()
    try:
        try:
            server.start()
        except ServerEndedError as error:
            return _told(error.status, " before it was ready")
        print(f"The server is ready on port {port} after {time.monotonic() - started:.0f} s.")
        print(
            f"Evaluate it from a second terminal: ./run_libero_eval.sh {suite} --headless --port {port}\n"
            "Stop it with Ctrl-C.",
            flush=True,
        )
        return _told(server.wait())
    finally:
        server.close()


def _told(status: int, when: str = "") -> int:
    if status:
        say(f"error: the server ended with status {status}{when}")
    return status


def _demo(options: Sequence[str], request: QuantizedRequest, environ: Mapping[str, str]) -> int:
    """Evaluate the policy of this repository, and tell where the report is, and a film."""
    with ExitStack() as stack:
        given = option_value("--output", request.evaluation)
        # Two demos may start within one second.
        wanted = Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
        folder = Path(given) if given else stack.enter_context(unused_folder(wanted, "-- --output"))
        program = _evaluation(DEMO_SUITE, DEMO_POLICY, request, [*options, "--output", str(folder)])
        status = run_tied(program, environ, patience_s=_EVALUATION_ENDS_SECONDS)
        films = [str(path) for path in sorted((folder / "videos").rglob("*.mp4"))]
        if films:
            # Quantized and successful, if there is one.
            best = next((film for film in films if "success" in film.partition("w4a8")[2]), films[0])
            print(f"\n{'report':<10} {folder}/report.html\n{'video':<10} {best}", flush=True)
        return status


def _in_harness(request: QuantizedRequest, suite: str, model: str, environ: Mapping[str, str]) -> int:
    """Let another project's harness play the policy."""
    from gr00t.cli.evaluate import agrees_to_download
    from gr00t.cli.launch.harness import HarnessGame, play
    from gr00t.libero.assets.location import set_up_assets

    assets = "stand-ins"
    if not request.is_demo:
        asks = not request.assumes_yes and is_attended(environ)
        assets = set_up_assets(
            find_suite(suite),
            package=libero_package(),
            environ=environ,
            choice="auto",
            agree=lambda told: agrees_to_download(told, asks=asks),
        )

    # All but the seed are of the policy, so that its calibration takes them, too.
    options = list(request.server_options)
    seed = options.index("--seed") if "--seed" in options else len(options)
    data_config = DEMO_DATA_CONFIG if request.is_demo else suite_data_config(suite)
    return play(
        HarnessGame(
            suite=suite,
            model=model,
            model_flags=(
                *("--data-config", data_config, "--denoising-steps", str(DENOISING_STEPS)),
                *(options[:seed] + options[seed + 2 :]),
            ),
            server_flags=options[seed : seed + 2],
            entry=DEMO_HARNESS_ENTRY if request.is_demo else HARNESS_ENTRY,
            assets=assets,
            words=request.evaluation,
            port=request.port,
            keeps_packs=request.is_demo,
        ),
        environ,
    )


def _evaluation(suite: str, model: str, request: QuantizedRequest, options: Sequence[str]) -> list[str]:
    program = [_EVALUATE, "--suite", suite, "--model", model, "--video", "all", *request.server_options]
    return [*program, *options, *(() if request.is_demo else request.evaluation)]


def _become(program: Sequence[str], environ: Mapping[str, str]) -> int:
    """Go on as another program, which receives the signals from now on."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *program], dict(environ))
