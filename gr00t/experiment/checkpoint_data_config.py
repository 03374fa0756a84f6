"""Which data configuration a checkpoint is served with where none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gr00t.experiment.data_config import load_data_config
from gr00t.model.checkpoint.source import open_source
from gr00t.model.lerobot.serving import groot_serving

# What most published LIBERO checkpoints of N1.5 were trained with.
STANDARD = "examples.Libero.custom_data_config:LiberoDataConfig"
# What a policy of lerobot is served with: the keys that follow from its folder.
OF_LEROBOT = "lerobot"


def choose_data_config(
    name: str | None, model_path: str | Path | None, base: str | Path | None = None
) -> tuple[str, Any]:
    """Return a data configuration and its name: the one of that name, else the one that the checkpoint has.

    Args:
        name: of `load_data_config`; None: what a policy of lerobot says itself, for others `STANDARD`.
        model_path: folder or hub id of the checkpoint; None: not known.
        base: see `gr00t.model.checkpoint.source.open_source`.

    Raises:
        DataConfigError, CheckpointError: there is no such data configuration, or no such checkpoint.
    """
    if name is None and model_path is not None:
        serving = groot_serving(open_source(model_path, base))
        if serving is not None:
            return OF_LEROBOT, serving
    name = STANDARD if name is None else name
    return name, load_data_config(name)


def served_data_config(name: str | None, policy: Any) -> tuple[str, Any]:
    """Return what `choose_data_config` returned for a policy that is there.

    Args:
        name: as it was given there.
        policy: may be somebody else's, of which nothing is known.
    """
    groot = getattr(policy, "groot", None)
    return (OF_LEROBOT, groot) if name is None and groot is not None else choose_data_config(name, None)
