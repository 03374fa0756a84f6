"""The full-size model's structure, built once: names and shapes, no weights. The compiled kernels, if any."""

from __future__ import annotations

import os

import pytest
from torch import nn

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.quantization.kernels import library


@pytest.fixture(scope="session")
def full_size() -> tuple[nn.Module, dict[str, str]]:
    """GR00T N1.5 on `meta`, and the checkpoint's names of its layers."""
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size())
    return model, module_aliases(model)


@pytest.fixture(scope="session", autouse=True)
def native_kernels() -> tuple[str, ...]:
    """Names of the compiled kernels that this machine can run; none where it has no compiler.

    They lie in the user's cache, as for every program, and are compiled anew when a source changes.
    """
    library.load(os.environ)
    return library.loaded() if library.supported() else ()
