"""A checkpoint's architecture without its weights: for listing layers in seconds, offline."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.checkpoint.folder_kind import CONFIG_FILE, FolderKind, recognize, refuse_quantized_base
from gr00t.model.checkpoint.hub import HUB_ID, resolve_checkpoint

if TYPE_CHECKING:
    from gr00t.model.gr00t_n1 import GR00T_N1_5

logger = logging.getLogger(__name__)


def build_structure(
    path_or_hub_id: str | Path | None, base: str | Path | None = None
) -> tuple[GR00T_N1_5, dict[str, str]]:
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
    # Nearly all of the time is importing; without the garbage collector walking what was imported it took 2.8
    # to 3.1 CPU-seconds instead of 3.7 to 3.9.
    gc.disable()
    try:
        from gr00t.model.checkpoint.folder import module_aliases
        from gr00t.model.gr00t_n1 import GR00T_N1_5

        model = GR00T_N1_5.on_meta(config)
        return model, module_aliases(model)
    finally:
        gc.enable()
        gc.freeze()


def find_config(path_or_hub_id: str | Path | None, base: str | Path | None = None) -> tuple[Gr00tConfig, str]:
    """Return a checkpoint's configuration and where it came from; nothing is ever downloaded.

    A folder's own config.json counts; for a hub id the one in the local cache, if there is one. Otherwise the
    built-in full-size architecture stands in, which every published fine-tune of GR00T N1.5 has.

    Args:
        path_or_hub_id: of a checkpoint, or of an adapter.
        base: the checkpoint that an adapter was trained on, or that a policy of lerobot began from.

    Raises:
        CheckpointError: the folder is no checkpoint, or its configuration is missing or cannot be used.
    """
    if path_or_hub_id is None:
        return Gr00tConfig.full_size(), "the built-in full-size architecture"
    name = str(path_or_hub_id)
    if Path(name).exists() or not HUB_ID.fullmatch(name):
        folder = resolve_checkpoint(name)
        if base is not None and recognize(folder) is FolderKind.ADAPTER:
            refuse_quantized_base(Path(base))
            return find_config(base)
        return Gr00tConfig.from_folder(folder, base, download=False), name
    from huggingface_hub import try_to_load_from_cache  # only needed here, and slow to import

    cached = try_to_load_from_cache(name, CONFIG_FILE)
    if isinstance(cached, str):
        folder = Path(cached).parent
        config = Gr00tConfig.from_folder(folder, base, download=False)
        return config, f"{name}, as cached in {folder}"
    return Gr00tConfig.full_size(), f"the built-in full-size architecture: {name} is not in the local cache"
