"""Several servers of one model, each with its own loop, until one of them ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gr00t.serving.endpoints import Failure, attempt
from gr00t.serving.server import BaseInferenceServer


def run_together(servers: Sequence[BaseInferenceServer]) -> None:
    """Run servers that share a computing thread; the first one in this thread, which signals reach.

    Raises:
        Exception: what ended one of them, if it was not told to.
    """
    first, *others = servers
    failures: list[Failure] = []

    def run(server: BaseInferenceServer) -> None:
        ended = attempt(server.run)
        if isinstance(ended, Failure):
            failures.append(ended)

    threads = [
        threading.Thread(target=run, args=[server], name=server.address, daemon=True) for server in others
    ]
    for thread in threads:
        thread.start()
    try:
        first.run()
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0].error
