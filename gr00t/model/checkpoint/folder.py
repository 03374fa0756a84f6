"""NVIDIA's checkpoint folders: finding, reading and writing them.

A folder holds `config.json` and safetensors files, one or several with an index. Reading is strict: before
any weight is touched, the headers of all files are compared with the model, and everything that is missing,
left over or of another shape is an error that lists it. The weights are then read into memory, not mapped:
a file that is written over would change a model that is served, one that is cut would end its server by
SIGBUS. Each is looked at once, since a NaN among them would reach the robot (at 6 GB/s on two busy cores of
an AMD EPYC, measured on 2026-11-30).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gr00t.files.atomic import atomic_write, replace_file
from gr00t.model.checkpoint.architecture import Architecture
from gr00t.model.checkpoint.hub import resolve_checkpoint
from gr00t.model.checkpoint.json_section import CheckpointError, listed
from gr00t.model.checkpoint.lora.adapter import read_adapter
from gr00t.model.checkpoint.names import NameTable, is_derived
from gr00t.model.checkpoint.weight_files import INDEX_FILE, stored_tensors, weight_leftovers
from gr00t.model.checkpoint.weight_header import StoredTensor

__all__ = ["CheckpointError", "load_weights", "module_aliases", "resolve_checkpoint", "save_checkpoint"]

_SHARD_BYTES = 5_000_000_000
_MAPPED_AT_A_TIME = 32
_INDEX_DTYPES = ("I64", "U64", "I32", "U32", "I16", "U16", "BOOL")
# How those who quantize call integers that stand for weights.
_PACKED = ("weight", "W", "bias", "b", "qweight", "qzeros", "scales", "g_idx", "weight_packed", "codes")
_LISTED = 8


def load_weights(
    model: nn.Module,
    folder: str | Path,
    contents: Mapping[Path, Mapping[str, Tensor]] | None = None,
    adapter: Path | None = None,
) -> None:
    """Put the weights of a checkpoint folder into a model, in the dtypes that its parameters have.

    Args:
        model: whose parameters are replaced.
        folder: of the checkpoint.
        contents: tensors by name of every file that may be used, by its path; None: they are read from the
            files. One on `meta` leaves its parameter there.
        adapter: folder of an adapter that is merged into them.

    Raises:
        CheckpointError: a file is absent, truncated or corrupt, the tensors are not exactly those of the
            model, the adapter changes others, or one holds inf or NaN, or what becomes that in the model's
            dtype.
    """
    folder = Path(folder)
    wanted, unused = _checkpoint_names(model), names_of(model).is_unused
    stored = {
        name: entry
        for name, entry in stored_tensors(folder).items()
        if name in wanted or not (unused(name) or is_derived(name) or _is_index(name, entry))
    }
    _compare(folder, architecture_of(model), wanted, stored)
    shapes = {name: tensor.shape for name, (_, tensor) in wanted.items()}
    changes = {} if adapter is None else read_adapter(adapter, shapes, unused)
    state: dict[str, Tensor] = {}
    broken = []
    for file in sorted({entry.file for entry in stored.values()}):
        names = {name: entry.key for name, entry in stored.items() if entry.file == file}
        for name, tensor in _tensors(file, names, contents):
            ours, parameter = wanted[name]
            if name in changes:
                tensor = changes[name].applied_to(tensor)
            # In memory of its own: who writes over a mapped file changes a model that is served.
            state[ours] = tensor.to(parameter.dtype, copy=contents is None)
            if not is_finite(state[ours]):
                broken.append(f"{name} ({file.name}, {stored[name].dtype})")
    if broken:
        raise CheckpointError(
            f"{folder}: {len(broken)} weights hold inf or NaN, or numbers too large for the model's dtype: "
            f"{listed(broken, _LISTED)}"
        )
    model.load_state_dict(state, strict=True, assign=True)


def _tensors(
    file: Path, names: Mapping[str, str], contents: Mapping[Path, Mapping[str, Tensor]] | None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file, of `contents` if there are any, else mapped; `names` are those in it."""
    if contents is not None:
        for name, key in names.items():
            if key not in contents.get(file, {}):
                raise CheckpointError(f"{file}: {name} is not in what was checked of this file")
            yield name, contents[file][key]
        return
    entries = list(names.items())
    try:
        for first in range(0, len(entries), _MAPPED_AT_A_TIME):
            # Opened anew, since pages stay in memory, beside the copies, for as long as a file is mapped.
            with safe_open(file, framework="pt") as tensors:
                for name, key in entries[first : first + _MAPPED_AT_A_TIME]:
                    yield name, tensors.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: {error}") from None


def save_checkpoint(
    model: nn.Module, config: Architecture, folder: str | Path, shard_bytes: int = _SHARD_BYTES
) -> None:
    """Write a model in NVIDIA's layout: both configurations, numbered safetensors files and their index.

    Files are written aside and then renamed, so that a save that is killed leaves no half file.
    Weights that were in the folder before are removed: two sets of them are none (`weight_files`).

    Args:
        model: a model whose parameters all have a name in NVIDIA's layout.
        config: its architecture.
        folder: made where it does not exist.
        shard_bytes: a file is closed before it would grow beyond this.

    Raises:
        CheckpointError: a parameter has no name in NVIDIA's layout, or a layer is quantized.
    """
    folder = Path(folder)
    tensors = checkpoint_tensors(model)
    packed = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    if packed:
        raise CheckpointError(
            f"a quantized layer has no place in NVIDIA's layout ({packed[0]}); scripts/export_quantized.py "
            "writes a quantized model"
        )
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = write_weights(folder, tensors, shard_bytes)
    write_index(folder, config, tensors, weight_map)
    for path in weight_leftovers(folder, {*weight_map.values()}):
        path.unlink()


def checkpoint_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of a model's state by NVIDIA's name.

    Raises:
        CheckpointError: one has none.
    """
    return {name: tensor for name, (_, tensor) in _checkpoint_names(model).items()}


def write_weights(
    folder: Path, tensors: dict[str, Tensor], shard_bytes: int = _SHARD_BYTES
) -> dict[str, str]:
    """Write tensors into numbered safetensors files; return the file of each.

    An index of earlier files is removed before the first of them is replaced: whoever is killed in between
    leaves a folder that does not load, not one of old and new weights.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    with ExitStack() as stack:  # at its end they take their names
        aside = [stack.enter_context(atomic_write(folder / file)) for file in files]
        for path, shard in zip(aside, shards, strict=True):
            save_file(shard, path, metadata={"format": "pt"})
        (folder / INDEX_FILE).unlink(missing_ok=True)
    return {name: file for file, shard in zip(files, shards, strict=True) for name in shard}


def write_index(
    folder: Path, config: Architecture, tensors: dict[str, Tensor], weight_map: dict[str, str]
) -> None:
    """Write what makes weight files a checkpoint: their index and both configurations.

    Args:
        folder: of the checkpoint.
        config: its architecture.
        tensors: by NVIDIA's name; the first one's dtype is that of the checkpoint.
        weight_map: the file of each.
    """
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    for file, values in config.files_beside(dtype).items():
        _write_json(folder / file, values)
    for file in set(weight_map.values()):  # safetensors lets only the owner read, whatever the umask says
        shutil.copymode(folder / INDEX_FILE, folder / file)


def module_aliases(model: nn.Module) -> dict[str, str]:
    """NVIDIA's name of every module that has one, by our name; all nn.Linear are among them."""
    table = names_of(model)
    names = ((name, table.to_checkpoint(name)) for name, _ in model.named_modules())
    return {ours: theirs for ours, theirs in names if theirs is not None}


def names_of(model: nn.Module) -> NameTable:
    """The names of a model's weights, ours and NVIDIA's."""
    return architecture_of(model).family.names


def architecture_of(model: nn.Module) -> Architecture:
    """What a model was built from.

    Raises:
        TypeError: it is no model of a family.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, Architecture):
        raise TypeError(f"expected a model of a GR00T, got {type(model).__name__}")
    return config


def _checkpoint_names(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Our name and the tensor of every entry of the state dict, by NVIDIA's name."""
    table = names_of(model)
    entries = {ours: (table.to_checkpoint(ours), tensor) for ours, tensor in model.state_dict().items()}
    unknown = [ours for ours, (theirs, _) in entries.items() if theirs is None]
    if unknown:
        raise CheckpointError(f"no name in NVIDIA's checkpoint layout for {listed(unknown, _LISTED)}")
    return {theirs: (ours, tensor) for ours, (theirs, tensor) in entries.items() if theirs is not None}


def _compare(
    folder: Path,
    config: Architecture,
    wanted: dict[str, tuple[str, Tensor]],
    stored: dict[str, StoredTensor],
) -> None:
    """Raise one CheckpointError with every difference between the model and the files."""
    problems = []
    missing = [name for name in wanted if name not in stored]
    if missing:
        problems.append(f"missing: {listed(missing, _LISTED)}")
    left_over = [f"{name} ({stored[name].file.name})" for name in stored if name not in wanted]
    if left_over:
        problems.append(f"left over, in no module of this architecture: {listed(left_over, _LISTED)}")
        if any(".lora_" in name for name in left_over):
            problems.append("a LoRA that is not merged is among them; merge it with peft (merge_and_unload)")
    wrong_shape, wrong_kind = [], []
    for name in (name for name in stored if name in wanted):
        entry, tensor = stored[name], wanted[name][1]
        if entry.shape != (shape := tuple(tensor.shape)):
            wrong_shape.append(f"{name} in {entry.file.name} is {entry.shape}, the architecture has {shape}")
        if entry.is_float != tensor.is_floating_point():
            wrong_kind.append(f"{name} in {entry.file.name} is {entry.dtype}, expected {tensor.dtype}")
    if wrong_shape:
        problems.append(f"wrong shape: {listed(wrong_shape, _LISTED)}")
    if wrong_kind:
        problems.append(f"wrong dtype: {listed(wrong_kind, _LISTED)}")
    if problems:
        told = config.told_by(lambda file: (folder / file).exists())
        raise CheckpointError(f"{folder}: the weights do not fit {told}\n  " + "\n  ".join(problems))


def _is_index(name: str, entry: StoredTensor) -> bool:
    """Whether a tensor numbers something, positions or batches: no weight of any layer, packed or not."""
    return entry.dtype in _INDEX_DTYPES and name.rpartition(".")[2] not in _PACKED


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is inf or NaN; of a tensor on `meta` there is nothing to see."""
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return True
    # Both ends are NaN where one entry is; `isfinite` takes 60 times as long in bfloat16.
    low, high = tensor.aminmax()
    return math.isfinite(low) and math.isfinite(high)


def _write_json(path: Path, values: dict[str, object]) -> None:
    replace_file(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
