"""Which model a configuration is of."""

from __future__ import annotations

from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.families import N1_5
from gr00t.model.network.model import Gr00tModel


def model_class(config: Architecture) -> type[Gr00tModel]:
    """The class of the model that a configuration describes; no other family's is imported."""
    if config.family is N1_5:
        from gr00t.model.gr00t_n1 import GR00T_N1_5

        return GR00T_N1_5
    from gr00t.model.gr00t_n1d7.gr00t_n1d7 import Gr00tN1d7

    return Gr00tN1d7
