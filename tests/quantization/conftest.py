"""The full-size model's structure, built once: names and shapes, no weights."""

from __future__ import annotations

import pytest
from torch import nn

from gr00t.model.checkpoint import module_aliases
from gr00t.model.config import Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5


@pytest.fixture(scope="session")
def full_size() -> tuple[nn.Module, dict[str, str]]:
    """GR00T N1.5 on `meta`, and the checkpoint's names of its layers."""
    model = GR00T_N1_5.on_meta(Gr00tConfig.full_size())
    return model, module_aliases(model)
