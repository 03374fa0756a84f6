"""Which tensors a checkpoint folder holds, and in which of its files each one is.

A folder has one file of weights, or several with an index that says which tensor is in which file. Where
both could be meant, or where a tensor is in several files and no index decides, the folder is refused: what
another program would read from it is another model.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from gr00t.model.checkpoint.folder_kind import half_download, other_contents
from gr00t.model.checkpoint.json_section import CheckpointError, is_there, listed, read_json
from gr00t.model.checkpoint.weight_header import StoredTensor, read_stored_tensors

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# What transformers and `folder.write_weights` call the parts of a checkpoint in several files.
_PART = re.compile(r"model-\d+-of-\d+\.safetensors")
# What lerobot's groot policies put before the names of NVIDIA's model, which they wrap.
WRAPPED = "_groot_model."
# lerobot's statistics, which `lerobot.rules` reads.
_STATISTICS = ("policy_preprocessor", "policy_postprocessor")

logger = logging.getLogger(__name__)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint folder by NVIDIA's name.

    Where there is an index it decides: of a tensor that is in several of its files, the one in the file that
    the index names. Other safetensors files of the folder are not read; the log says so.

    Raises:
        CheckpointError: there are no weights, it cannot be told which ones are meant, the index and the files
            disagree, or a file is damaged.
    """
    index, whole = folder / INDEX_FILE, folder / WEIGHTS_FILE
    if is_there(index):
        weight_map = _read_index(index)
        if is_there(whole) and WEIGHTS_FILE not in weight_map.values():
            raise CheckpointError(
                f"{folder} holds two sets of weights: {WEIGHTS_FILE}, and {weight_map[min(weight_map)]} and "
                f"others by {INDEX_FILE}; some programs read the first, some the second: remove one"
            )
        found = _by_index(index, weight_map)
    elif is_there(whole):
        found = read_stored_tensors(whole)
        _refuse_second_copies(folder, found)
    else:
        parts = [path.name for path in weight_leftovers(folder, ())]
        without = f"; {listed(parts)} without their index" if parts else ""
        if not parts and (other := other_contents(folder)) is not None:
            without = f"; it {other}"
        raise CheckpointError(f"{folder} has no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}{without}")
    used = {entry.file for entry in found.values()}
    others = sorted(path.name for path in folder.glob("*.safetensors") if path not in used)
    others = [name for name in others if not name.startswith(_STATISTICS)]
    if others:
        logger.warning("%s: not read, since no weights of this checkpoint: %s", folder, listed(others))
    return _unwrapped(folder, found)


def _unwrapped(folder: Path, found: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Tensors of a policy of lerobot by the names that they have in NVIDIA's model."""
    wrapped = [name for name in found if name.startswith(WRAPPED)]
    if not wrapped:
        return found
    bare = [name for name in found if not name.startswith(WRAPPED)]
    if bare:
        raise CheckpointError(
            f"{folder}: {len(wrapped)} weights are named {WRAPPED}NAME, as lerobot does, and "
            f"{len(bare)} are not: {listed(bare)}"
        )
    return {name.removeprefix(WRAPPED): entry for name, entry in found.items()}


def weight_leftovers(folder: Path, used: set[str] | tuple[str, ...]) -> list[Path]:
    """Files of `folder` named like a checkpoint's weights that are not among the names `used`."""
    named = (path for path in folder.glob("*.safetensors") if path.name not in used)
    return sorted(path for path in named if path.name == WEIGHTS_FILE or _PART.fullmatch(path.name))


def _read_index(index: Path) -> dict[str, str]:
    """The file of every tensor, which lies within the folder."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index}: weight_map must be an object, got {weight_map!r}")
    if not weight_map:
        raise CheckpointError(f"{index}: weight_map names no tensor")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not file:
            raise CheckpointError(f"{index}: weight_map: {name} must be in a file, got {file!r}")
        # Links are followed, the hub's cache consists of them; a path that itself leads elsewhere is not.
        parts = {*PurePosixPath(file).parts, *PureWindowsPath(file).parts}
        absolute = PurePosixPath(file).is_absolute() or PureWindowsPath(file).anchor
        if absolute or ".." in parts or "\0" in file or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: weight_map: {name} is said to be in {file!r}; expected a safetensors file within "
                f"{index.parent}"
            )
    return weight_map


def _by_index(index: Path, weight_map: dict[str, str]) -> dict[str, StoredTensor]:
    folder = index.parent
    found: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        expected = [name for name, file in weight_map.items() if file == shard]
        if not is_there(folder / shard) or not (folder / shard).is_file():
            more = f", which {why}" if (why := half_download(folder)) is not None else ""
            raise CheckpointError(
                f"{index} names {shard} (for {expected[0]}), which is not in {folder}{more}"
            )
        entries = read_stored_tensors(folder / shard)
        absent = [name for name in expected if name not in entries]
        if absent:
            raise CheckpointError(f"{index} says that {absent[0]} is in {shard}, but it is not")
        for name, entry in entries.items():
            if weight_map.get(name, shard) != shard:
                continue  # a copy; the index names another file
            if name in found:
                raise CheckpointError(
                    f"{index} does not name {name}, which is in {found[name].file.name} and in {shard}"
                )
            found[name] = entry
    return found


def _refuse_second_copies(folder: Path, found: dict[str, StoredTensor]) -> None:
    """Raise where parts of a checkpoint whose index is gone hold what the one file of weights holds."""
    for part in weight_leftovers(folder, (WEIGHTS_FILE,)):
        twice = [name for name in read_stored_tensors(part) if name in found]
        if twice:
            raise CheckpointError(
                f"{folder}: {twice[0]} is in {WEIGHTS_FILE} and in {part.name}, and no {INDEX_FILE} says "
                "which one is meant: remove one of the files"
            )
