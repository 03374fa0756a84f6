"""Serve GR00T N1.5 to clients of several wires, or ask a running server for one action.

    python scripts/inference_service.py --server --model-path PATH_OR_HUB_ID
    python scripts/inference_service.py --client

With --http-server both speak HTTP; with --wire the server speaks to the clients of other projects as well.

The GR00T_DUQUANT_* variables decide whether the served model is quantized; with GR00T_DUQUANT_DRYRUN=1 its
layers are listed and nothing is served. What scripts/export_quantized.py wrote needs none of them.
"""

from __future__ import annotations

from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.cli.serving.arguments import ServeArguments


def run(arguments: ServeArguments) -> None:
    """Do what the flags say; return when the server was told to stop or the client has its answer."""
    if arguments.server == arguments.client:
        raise UsageError("give one of --server and --client")
    if arguments.api_token == "":
        raise UsageError("--api-token is empty: it would protect nothing")
    if arguments.max_batch < 1:
        raise UsageError(f"--max-batch: expected at least 1, got {arguments.max_batch}")
    if arguments.replan_steps < 1:
        raise UsageError(f"--replan-steps: expected at least 1, got {arguments.replan_steps}")
    if arguments.client:
        from gr00t.cli.serving.client import ask

        ask(arguments)
    else:
        from gr00t.cli.serving.server import serve

        serve(arguments)


def main() -> int:
    """Run as a program; at a signal the server answers, closes its port, and exit handlers run."""
    # A signal is how a server ends: there is nothing to say of it.
    return run_command(ServeArguments, run, __doc__, interrupted="", heeds_signals=True)


if __name__ == "__main__":
    raise SystemExit(main())
