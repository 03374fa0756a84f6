"""A user whom the system does not know, as containers run programs: no name, no home, nothing to write."""

from __future__ import annotations

import os
import shutil

import pytest

USER = 12345


def foreign_user() -> list[str]:
    """Put before a command, it runs as that user, who may read everything; skips where that cannot be had.

    Permissions do not bind root, so root becomes that user; who is not root has no right to become one, and
    stays who he is: what the tests forbid to write is forbidden to him, too.
    """
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed; run: apt-get install -y util-linux")
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *reading]
