"""The simulator's process: runs the functions that it reads from stdin, answers on stdout.

It ends at the end of its input. An error is not handled here: the process dies with its traceback in the log,
and the other side starts a new one. What arrives is unpickled, and so trusted: it comes over a pipe from the
program that started this one. See `gr00t.libero.simulator.process`.
"""

from __future__ import annotations

import os
import pickle
import sys
from importlib.metadata import PackageNotFoundError, version

from gr00t.libero.tasks.suites import BENCHMARK


def main() -> None:
    """Serve one `LiberoSimulator` over the standard streams."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # LIBERO and its libraries print, and may ask: neither must get between requests and answers.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    # Imported before the first answer: a machine on which GL or mujoco cannot be loaded is told at once.
    import mujoco

    mujoco.GLContext(16, 16).free()
    versions = {name: _version(name) for name in (*BENCHMARK, "numpy")}
    pickle.dump(versions, answers)
    answers.flush()

    search_path, make_simulator = pickle.load(requests)
    sys.path += [entry for entry in search_path if entry not in sys.path]
    simulator = make_simulator()
    while True:
        try:
            function, args, kwargs = pickle.load(requests)
        except EOFError:
            break
        pickle.dump(function(simulator, *args, **kwargs), answers)
        answers.flush()
    simulator.close()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"  # LIBERO installed from its repository goes by another name


if __name__ == "__main__":
    main()
