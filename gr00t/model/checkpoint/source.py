"""Where a model comes from: a checkpoint, or an adapter and the checkpoint that it changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.config import EAGLE_FILE, Gr00tConfig
from gr00t.model.checkpoint.families import N1_7, family_of
from gr00t.model.checkpoint.folder_kind import (
    ADAPTER_CONFIG,
    CONFIG_FILE,
    FolderKind,
    adapter_advice,
    check_base,
    newest_first,
    recognize,
)
from gr00t.model.checkpoint.groot_base import base_folder
from gr00t.model.checkpoint.hub import resolve_checkpoint
from gr00t.model.checkpoint.json_section import CheckpointError, read_json
from gr00t.model.checkpoint.n1d7.config import Gr00tN1d7Config

logger = logging.getLogger(__name__)

METADATA = Path("experiment_cfg", "metadata.json")


@dataclass(frozen=True)
class Source:
    """Folders that a model is read from.

    Attributes:
        kind: what `folder` is.
        folder: what was named; its metadata, or lerobot's rules in it, count.
        weights: the checkpoint; another folder where `folder` is an adapter's.
        config: the architecture.
        more: other folders and files that the model is read from.
    """

    kind: FolderKind
    folder: Path
    weights: Path
    config: Architecture
    more: tuple[Path, ...] = ()

    @property
    def adapter(self) -> Path | None:
        """The adapter's folder, if there is one."""
        return self.folder if self.kind is FolderKind.ADAPTER else None

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders, the one first whose tokenizer counts."""
        return (self.folder,) if self.adapter is None else (self.folder, self.weights)


def open_source(path_or_hub_id: str | Path, base: str | Path | None = None) -> Source:
    """Find a model's folders and read its architecture.

    Args:
        path_or_hub_id: of the checkpoint, or of the adapter.
        base: of the checkpoint that an adapter was trained on, or that a policy of lerobot began from.

    Raises:
        CheckpointError: something is missing or is no checkpoint, an adapter comes without `base` or
            with a quantized one, or `base` beside what needs none.
    """
    folder = resolve_checkpoint(path_or_hub_id)
    kind = recognize(folder)
    if kind is FolderKind.ADAPTER:
        if base is None:
            raise CheckpointError(adapter_advice(folder))
        weights = resolve_checkpoint(base)
        files = _architecture(weights, None) if check_base(weights) is FolderKind.LEROBOT else ()
        return Source(kind, folder, weights, read_config(weights), (weights, *files))
    if kind is FolderKind.LEROBOT:
        config = read_config(folder, base)
        return Source(kind, folder, folder, config, _architecture(folder, base))
    if base is not None:
        raise CheckpointError(f"{folder} is a whole checkpoint and needs no base; leave --base out")
    return Source(kind, folder, folder, read_config(folder))


def read_config(folder: Path, base: str | Path | None = None, *, download: bool = True) -> Architecture:
    """Read the architecture of a checkpoint of any family; arguments as for `Gr00tConfig.from_folder`.

    Raises:
        CheckpointError: it is no checkpoint, or its configuration is missing or cannot be used.
    """
    kind = recognize(folder)
    if (
        kind in (FolderKind.NVIDIA, FolderKind.QUANTIZED)
        and family_of(read_json(folder / CONFIG_FILE)) is N1_7
    ):
        return Gr00tN1d7Config.from_folder(folder)
    return Gr00tConfig.from_folder(folder, base, download=download)


def served_config(config: Architecture, what: str | Path) -> Gr00tConfig:
    """The architecture of a checkpoint that policies and commands can use.

    Args:
        config: its architecture.
        what: how it was named.

    Raises:
        CheckpointError: its network is here, and what prepares its observations is not.
    """
    if not isinstance(config, Gr00tConfig):
        raise CheckpointError(
            f"{what} is {config.family.name}, whose observations cannot be prepared here yet; its network "
            "can be loaded (gr00t.model.checkpoints.open_checkpoint) and its layers listed (gr00t-scan)"
        )
    return config


def _architecture(folder: Path, base: str | Path | None) -> tuple[Path, ...]:
    """The files outside of a groot policy's folder that say what its architecture is."""
    began = base_folder(folder, base)
    files = () if began is None else (began / CONFIG_FILE, began / EAGLE_FILE)
    return tuple(file for file in files if file.is_file())


def find_metadata(folder: Path) -> Path:
    """Return the metadata.json of a checkpoint or an adapter: its own, else that of the training it is from.

    N1.5 writes it into the training's folder and copies it into each `checkpoint-STEP`; a copy of such a
    folder may have been made before, or without it. An adapter never has that of the checkpoint which it
    changes: its training had statistics of its own.

    Returns:
        Its path, which the folder would have it at where there is none.

    Raises:
        CheckpointError: there is none, and those around it say different things.
    """
    own = folder / METADATA
    if own.is_file():
        return own
    resolved = folder.resolve()
    above = resolved.parent / METADATA
    # Only a training names its folders so, and only an adapter lies in the checkpoint that it became.
    if not (resolved.name.startswith("checkpoint-") or (folder / ADAPTER_CONFIG).is_file()):
        if above.is_file():
            what = (
                "%s has no %s; if it is of the same training, copy the one of the folder above: cp -r %s %s"
            )
            logger.warning(what, folder, METADATA, above.parent, folder)
        return own
    if above.is_file():
        logger.info("%s has no %s; that of its training is used: %s", folder, METADATA, above)
        return above
    if not resolved.name.startswith("checkpoint-"):
        return own  # what lies beside an adapter may be of anything
    beside = [
        path / METADATA
        for path in newest_first(resolved.parent)
        if path.name.startswith("checkpoint-")
        and path.parent == resolved.parent
        and (path / METADATA).is_file()
    ]
    if not beside:
        return own
    if len({path.read_bytes() for path in beside}) > 1:
        raise CheckpointError(
            f"{folder} has no {METADATA}, and the checkpoints beside it differ in theirs; copy the right "
            f"experiment_cfg into it, of {', '.join(str(path.parents[1]) for path in beside[:4])}"
        )
    logger.info("%s has no %s; that of the checkpoints beside it is used: %s", folder, METADATA, beside[0])
    return beside[0]
