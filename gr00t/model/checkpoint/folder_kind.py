"""What a folder is that was given as a checkpoint: said once, for everything that opens one.

Only names and config.json are looked at, so that the answer comes at once. What cannot be opened is refused
with what it is and with what to give instead.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import Path
from typing import NoReturn

from gr00t.files.lfs_pointer import LFS_POINTER
from gr00t.model.checkpoint.families import SUPPORTED, other_family
from gr00t.model.checkpoint.json_section import (
    CheckpointError,
    is_there,
    listed,
    read_json,
    refuse_special,
)

CONFIG_FILE = "config.json"
# `quantization.checkpoint`'s SIDECAR and FILE, which this module may not import; a test holds them together.
SIDECAR, EXPORTED_FILE = "duquant.json", "duquant.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_SMALL = 1024  # bytes; a pointer of Git LFS has some 130
_PICKLED = "holds pickled files and no safetensors; give a folder that save_pretrained wrote"
# What stands in place of weights that can be served, and what to do about it; the first that is there counts.
_OTHER_CONTENTS = (
    ("*.gguf", "is a model in GGUF, for llama.cpp; give the checkpoint that it was converted from"),
    *(
        (pattern, "is a checkpoint of JAX (Orbax), as openpi writes them, and no GR00T")
        for pattern in ("_CHECKPOINT_METADATA", "params/_METADATA")
    ),
    *(
        (pattern, "holds a compiled graph and no weights; give the checkpoint that it was made from")
        for pattern in ("*.onnx", "*.engine", "*.trt")
    ),
    (
        "global_step*",
        "has the state of a DeepSpeed training and no weights; write them with its zero_to_fp32.py, option "
        "--safe_serialization",
    ),
    *(
        (
            pattern,
            "has the shards of an FSDP training and no weights; merge them with: accelerate merge-weights",
        )
        for pattern in ("*.distcp", "*/*.distcp")
    ),
    (
        "pytorch_model*.bin",
        "has its weights in pickled files, which may run code as they are read; save them as safetensors "
        "(save_pretrained with safe_serialization=True)",
    ),
    *(
        (pattern, "is the state of a training, without weights; give the folder that has the model")
        for pattern in ("optimizer_state.safetensors", "optimizer.pt", "training_state")
    ),
    (
        SIDECAR,
        "holds packs (GR00T_DUQUANT_PACKDIR), quantized layers without a model; give the checkpoint",
    ),
    *((pattern, _PICKLED) for pattern in ("*.pt", "*.pth", "*.ckpt", "*.bin")),
)


class FolderKind(Enum):
    """What can be opened."""

    NVIDIA = "NVIDIA's layout"
    QUANTIZED = "a quantized checkpoint"  # in NVIDIA's layout but for its quantized layers
    LEROBOT = "a groot policy of lerobot"
    ADAPTER = "a LoRA adapter"


def recognize(folder: Path) -> FolderKind:
    """Say what a folder is.

    Raises:
        CheckpointError: nothing that can be opened; what it is, and what to give instead.
    """
    if not folder.is_dir():
        if folder.exists():
            refuse_file(folder)
        raise CheckpointError(f"{folder}: no such folder")
    _refuse_pointers(folder)
    refuse_special(folder / CONFIG_FILE)
    if is_there(folder / CONFIG_FILE) and _is_exported(folder):
        return FolderKind.QUANTIZED
    adapter = [name for name in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS) if (folder / name).exists()]
    whole = sorted(path.name for path in folder.glob("model*.safetensors"))
    if adapter and whole:
        raise CheckpointError(
            f"{folder} holds a LoRA adapter ({listed(adapter)}) and a whole checkpoint ({listed(whole)}); "
            "some programs read the first, some the second: move one into a folder of its own"
        )
    if adapter:
        return FolderKind.ADAPTER
    if not is_there(folder / CONFIG_FILE):
        raise CheckpointError(_without_config(folder))
    config = read_json(folder / CONFIG_FILE)
    if (other := other_family(config)) is not None:
        raise CheckpointError(f"{folder} is {other}; opened here: {SUPPORTED}")
    return FolderKind.LEROBOT if config.get("type") == "groot" else FolderKind.NVIDIA


def refuse_file(path: Path) -> NoReturn:
    """Raise a CheckpointError for a file that is given as a checkpoint."""
    what = "a model in GGUF, for llama.cpp" if path.suffix == ".gguf" else "a file"
    inside = f"; give {path.parent}" if (path.parent / CONFIG_FILE).exists() else ""
    raise CheckpointError(
        f"{path} is {what}; a checkpoint is a folder with {CONFIG_FILE} and safetensors files{inside}"
    )


def check_base(folder: Path) -> FolderKind:
    """Say what the checkpoint is that an adapter is to be merged into.

    Raises:
        CheckpointError: as `recognize`; it is an adapter itself, or quantized: nothing merges into codes.
    """
    kind = recognize(folder)
    if kind is FolderKind.ADAPTER:
        raise CheckpointError(f"--base {folder} is an adapter itself; give a whole checkpoint")
    if kind is FolderKind.QUANTIZED:
        raise CheckpointError(f"{folder} is quantized; an adapter is merged into what it was exported from")
    return kind


def adapter_advice(folder: Path) -> str:
    """What to do with the folder of an adapter."""
    trained_on = None
    if (folder / ADAPTER_CONFIG).is_file():
        trained_on = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    base = trained_on or "CHECKPOINT"
    return (
        f"{folder} holds a LoRA adapter, changes to a checkpoint and no checkpoint; give what it was trained "
        f"on: --base {base}; or merge them once: python scripts/merge_adapter.py {folder} OUT --base {base}"
    )


def other_contents(folder: Path) -> str | None:
    """What a folder without safetensors files has in their place, and what to do; None: nothing known."""
    for pattern, what in _OTHER_CONTENTS:
        found = sorted(folder.glob(pattern))
        if found:
            return f"{what} ({listed([str(path.relative_to(folder)) for path in found])})"
    return half_download(folder)


def half_download(folder: Path) -> str | None:
    """What a download that was broken off has left in a folder; None: nothing."""
    files = sorted(path.name for path in folder.glob("**/*.incomplete"))
    return f"is half a download: {listed(files)}; download it again" if files else None


def newest_first(folder: Path) -> list[Path]:
    """Checkpoints within a training's folder, of the largest step first."""
    wanted = (CONFIG_FILE, ADAPTER_CONFIG)
    depths = ("*", "*/*", "*/*/*")
    found = {
        path.parent
        for name in wanted
        for depth in depths
        for path in folder.glob(f"{depth}/{name}")
        if not any(part.is_symlink() for part in _between(folder, path.parent))
    }
    return sorted(found, key=lambda path: (_step(path.relative_to(folder)), str(path)), reverse=True)


def _is_exported(folder: Path) -> bool:
    """Whether a folder is a quantized checkpoint, whole or damaged: whoever reads it on says which."""
    if os.path.lexists(folder / EXPORTED_FILE):
        return True
    if not os.path.lexists(folder / SIDECAR):
        return False
    try:
        # A checkpoint may be the PACKDIR of its own layers.
        return read_json(folder / SIDECAR).get("kind") != "packs"
    except CheckpointError:
        return True


def _refuse_pointers(folder: Path) -> None:
    kinds = ("*.json", "*.safetensors", "*.txt", "*.bin", "experiment_cfg/*.json")
    files = sorted({path for kind in kinds for path in folder.glob(kind) if path.is_file()})
    pointers = [
        str(path.relative_to(folder))
        for path in files
        if path.stat().st_size <= _SMALL and path.read_bytes().startswith(LFS_POINTER)
    ]
    if pointers:
        raise CheckpointError(
            f"{folder}: {listed(pointers)}: pointers of Git LFS, not the files; run in it: git lfs pull"
        )


def _without_config(folder: Path) -> str:
    what = f"{folder} is not a GR00T checkpoint: it has no {CONFIG_FILE}"
    if (folder / "snapshots").is_dir() and folder.name.startswith("models--"):
        hub_id = "/".join(folder.name.split("--")[1:])
        return f"{what}; it is the hub's cache of {hub_id}: give that name"
    checkpoints = newest_first(folder)
    if checkpoints:
        names = listed([str(path.relative_to(folder)) for path in checkpoints])
        return f"{what}, but holds {names} (newest first); give --model-path {checkpoints[0]}"
    if not any(folder.iterdir()):
        return f"{what}; it is empty"
    if (other := other_contents(folder)) is not None:
        return f"{folder} {other}"
    if any(folder.glob("*.safetensors")):
        return f"{what}, only weights; copy the {CONFIG_FILE} that belongs to them into it"
    return what


def _between(folder: Path, below: Path) -> list[Path]:
    """The folders from below `folder` down to `below`."""
    parts = below.relative_to(folder).parts
    return [folder.joinpath(*parts[: i + 1]) for i in range(len(parts))]


def _step(path: Path) -> int:
    """The training step in the name of a checkpoint's folder; -1 without one."""
    steps = re.findall(r"\d+", str(path))
    return int(steps[-1]) if steps else -1
