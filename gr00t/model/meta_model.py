"""A checkpoint's architecture without its weights: for listing layers in seconds, offline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gr00t.files.home import expanded
from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.families import names_n1_7
from gr00t.model.checkpoint.folder_kind import FolderKind, check_base, recognize
from gr00t.model.checkpoint.hub import local_folder
from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config
from gr00t.model.checkpoint.source import read_config

if TYPE_CHECKING:
    from gr00t.model.network.model import Gr00tModel

logger = logging.getLogger(__name__)


def build_structure(
    path_or_hub_id: str | Path | None, base: str | Path | None = None
) -> tuple[Gr00tModel, dict[str, str]]:
    """Build a checkpoint's model on `meta` and say in the log whose architecture it is.

    Args:
        path_or_hub_id: as for `find_config`.
        base: as for `find_config`.

    Returns:
        The model, and the checkpoint's name of each of its modules.

    Raises:
        CheckpointError: the folder's configuration is missing or cannot be used.
    """
    config, source = find_config(path_or_hub_id, base)
    logger.info("Architecture: %s", source)
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.model.families import model_class

    model = model_class(config).on_meta(config)
    return model, module_aliases(model)


def find_config(
    path_or_hub_id: str | Path | None, base: str | Path | None = None
) -> tuple[Architecture, str]:
    """Return a checkpoint's configuration and where it came from; nothing is ever downloaded.

    A folder's own config.json counts; for a hub id the one in the local cache, if there is one. Otherwise the
    built-in full-size architecture of the family stands in that the id names, else that of GR00T N1.5: every
    published fine-tune has it.

    Args:
        path_or_hub_id: of a checkpoint, or of an adapter.
        base: the checkpoint that an adapter was trained on, or that a policy of lerobot began from.

    Raises:
        CheckpointError: the folder is no checkpoint, or its configuration is missing or cannot be used.
    """
    if path_or_hub_id is None:
        return Gr00tConfig.full_size(), "the built-in full-size architecture"
    folder = local_folder(path_or_hub_id)
    if folder is None:
        absent = f"the built-in full-size architecture: {path_or_hub_id} is not in the local cache"
        if names_n1_7(str(path_or_hub_id)):
            return Gr00tN1d7Config.full_size(), absent
        return Gr00tConfig.full_size(), absent
    if base is not None and recognize(folder) is FolderKind.ADAPTER:
        if (weights := local_folder(base)) is not None:
            check_base(weights)
        return find_config(base)
    config = read_config(folder, base, download=False)
    cached = "" if folder == expanded(path_or_hub_id) else f", as cached in {folder}"
    return config, f"{path_or_hub_id}{cached}"
