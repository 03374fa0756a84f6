"""What is in a checkpoint folder, float or quantized, from the headers of its files: no weight is read."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.files.home import expanded
from gr00t.model.checkpoint.families import family_of
from gr00t.model.checkpoint.folder_kind import CONFIG_FILE, FolderKind, adapter_advice, recognize
from gr00t.model.checkpoint.json_section import CheckpointError, read_json
from gr00t.model.checkpoint.names import NameTable
from gr00t.model.checkpoint.source import find_metadata
from gr00t.model.checkpoint.weight_files import stored_tensors
from gr00t.model.checkpoint.weight_header import StoredTensor
from gr00t.model.lerobot.rules import read_rules
from gr00t.model.preprocessing.tokenizer import TOKENIZER_FILES
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE, Manifest, read_manifest
from gr00t.quantization.settings.environment import settings_in
from gr00t.quantization.settings.options import WeightScale

# What the tensors of a quantized layer are for, by the last part of their names.
KINDS = {
    "codes": "codes",
    "block_scale": "scales",
    "row_scale": "scales",
    "act_scale": "scales",
    "rotation_first": "rotations",
    "rotation_in": "rotations",
    "rotation_out": "rotations",
    "rotation_absorbed": "rotations",
    "perm": "permutations, smoothing",
    "smoothing": "permutations, smoothing",
    "calibrated": "permutations, smoothing",
    "bias": "bias",
    "weight": "weights in floating point",
}


def read_contents(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """Describe a checkpoint as plain data.

    Args:
        folder: of the checkpoint.
        verify: of a quantized one, also read every byte and check the hashes.

    Raises:
        CheckpointError, ArtefactError: it has no usable configuration or weights, or a header is damaged.
    """
    folder = expanded(folder)
    if recognize(folder) is FolderKind.ADAPTER:
        raise CheckpointError(adapter_advice(folder))
    config = read_json(folder / CONFIG_FILE)
    family = family_of(config)
    names = family.names
    rules = read_rules(folder)
    manifest = read_manifest(folder)
    stored = stored_tensors(folder)
    packed = _of_layers(stored, manifest, names)
    rest = {name: entry for name, entry in stored.items() if name not in packed}
    metadata = find_metadata(folder)
    files = sorted({entry.file for entry in stored.values()})
    found: dict[str, Any] = {
        "folder": str(folder),
        "kind": "float" if manifest is None else "quantized",
        "model_type": config.get("model_type", family.model_type),
        "weight_files": {path.name: path.stat().st_size for path in files},
        "weight_file_bytes": sum(path.stat().st_size for path in files),
        "float_bytes": sum(entry.nbytes for entry in rest.values()),
        "float_bytes_by_dtype": _summed((entry.dtype, entry.nbytes) for entry in rest.values()),
        "float_bytes_by_part": _summed((_part(name, names), entry.nbytes) for name, entry in rest.items()),
        "tokenizer": [name for name in TOKENIZER_FILES if (folder / name).is_file()],
        "embodiments": sorted(read_json(metadata)) if metadata.is_file() else [],
    }
    if rules is not None:
        found["embodiments"] = [rules.embodiment_tag]
        found["lerobot"] = {
            "cameras": list(rules.cameras),
            "state": len(rules.state.low),
            "action": len(rules.action.low),
            "horizon": rules.horizon,
            "embodiment": rules.embodiment,
        }
    if manifest is not None:
        found["quantized"] = _quantized(manifest, packed)
        found["quantized"]["file_bytes"] = found["weight_files"].get(FILE, 0)
        found["hashes"] = _hashes(folder, manifest, names) if verify else "not checked"
    return found


def as_text(found: Mapping[str, Any]) -> str:
    """Write `read_contents` for people."""
    lines = [f"{found['folder']}: {found['kind']}, {found['model_type']}"]
    if (groot := found.get("lerobot")) is not None:
        lines.append(
            f"of lerobot       {', '.join(groot['cameras'])}; {groot['state']} numbers of state, "
            f"{groot['action']} of action, {groot['horizon']} actions in a chunk; embodiment number "
            f"{groot['embodiment']}"
        )
    if (layers := found.get("quantized")) is not None:
        lines += _layers_as_text(layers)
        lines.append(f"  hashes         {found['hashes']}")
    dtypes = ", ".join(f"{dtype} {size:,}" for dtype, size in found["float_bytes_by_dtype"].items())
    lines.append(f"floating point   {found['float_bytes']:,} bytes ({dtypes})")
    lines += [f"  {part:<38}{size:>14,}" for part, size in found["float_bytes_by_part"].items()]
    files = ", ".join(f"{name} {size:,}" for name, size in found["weight_files"].items())
    lines.append(f"weight files     {found['weight_file_bytes']:,} bytes: {files}")
    lines.append(
        f"embodiments      {', '.join(found['embodiments']) or 'none: no experiment_cfg/metadata.json'}"
    )
    lines.append(f"tokenizer        {', '.join(found['tokenizer']) or 'none'}")
    return "\n".join(lines)


def _layers_as_text(layers: Mapping[str, Any]) -> list[str]:
    bits = ", ".join(f"{count} x {kind}" for kind, count in layers["bits"].items())
    ratio = layers["bytes"] / layers["bytes_before"]
    calibrated = layers["calibration"]
    return [
        f"quantized        {layers['layers']} layers ({bits}), {layers['weights']:,} weights",
        f"  in the model   {layers['bytes']:,} bytes, {layers['bits_per_weight']:.3f} bits a weight; "
        f"before {layers['bytes_before']:,} ({ratio:.3f}x)",
        *(f"    {kind:<34}{size:>14,}" for kind, size in layers["bytes_by_kind"].items()),
        f"  in the file    {layers['file_bytes']:,} bytes",
        f"  settings       {layers['settings_line']}",
        f"  activations    {', '.join(f'{n} layers {text}' for text, n in layers['activations'].items())}",
        f"  calibration    {calibrated or 'none recorded'}",
        f"  exported       from {layers['checkpoint']} ({layers['dtype']}), format {layers['format']!r}, "
        + ", ".join(f"{name} {version}" for name, version in layers["versions"].items()),
    ]


def _quantized(manifest: Manifest, packed: Mapping[str, StoredTensor]) -> dict[str, Any]:
    specs = manifest.layers.values()
    weights = sum(spec.in_features * spec.out_features for spec in specs)
    size = sum(entry.nbytes for entry in packed.values())
    kinds = _summed((KINDS.get(name.rpartition(".")[2], "other"), e.nbytes) for name, e in packed.items())
    calibration = manifest.calibration
    blocks = collections.Counter(
        spec.block_in for spec in specs if spec.weight_scale is WeightScale.BLOCK and spec.weight is not None
    )
    return {
        "layers": len(manifest.layers),
        "bits": dict(collections.Counter(spec.bits for spec in specs)),
        "blocks": dict(blocks),
        "weights": weights,
        "bytes": size,
        "bytes_before": manifest.linear_bytes_before,
        "bytes_by_kind": {
            kind: kinds[kind] for kind in dict.fromkeys([*KINDS.values(), "other"]) if kind in kinds
        },
        "bits_per_weight": 8 * size / weights,
        "activations": dict(
            collections.Counter(
                "in floating point"
                if spec.activation is None
                else "static scales"
                if spec.static
                else "scaled per token"
                for spec in specs
            )
        ),
        "informed": manifest.informed,
        "settings": dict(manifest.settings),
        "settings_line": " ".join(
            f"{name}={text}"
            for name, text in settings_in(manifest.settings).items()
            if text and name not in ("INCLUDE", "EXCLUDE")
        ),
        "calibration": None
        if calibration is None
        else f"{calibration.get('date')}, {calibration.get('requests')} requests "
        f"({calibration.get('observations')}); used by {manifest.informed} layers",
        "checkpoint": manifest.checkpoint,
        "dtype": manifest.dtype,
        "format": manifest.format,
        "versions": dict(manifest.versions),
        "names": {name: str(spec) for name, spec in manifest.layers.items()},
    }


def _hashes(folder: Path, manifest: Manifest, names: NameTable) -> str:
    try:
        read = manifest.check_files(folder)
        _check_values(folder, manifest, names)
    except ArtefactError as error:
        return f"DAMAGED: {error}"
    return f"verified: {len(manifest.files)} files, {read:,} bytes, are what was exported"


def _check_values(folder: Path, manifest: Manifest, table: NameTable) -> None:
    """Look at the values of all quantized layers, which a hash may cover and no quantization yields."""
    # Here alone: importing torch takes seconds.
    from gr00t.quantization.checkpoint.tensor_file import read_tensors
    from gr00t.quantization.numerics.soundness import UnsoundError, check_state
    from gr00t.quantization.numerics.storage import buffer_shapes

    tensors = read_tensors(folder / FILE)[1]
    for name, spec in manifest.layers.items():
        names = {buffer: f"{table.to_checkpoint(name)}.{buffer}" for buffer in buffer_shapes(spec)}
        try:
            check_state({buffer: tensors[key] for buffer, key in names.items() if key in tensors}, spec)
        except UnsoundError as error:
            raise ArtefactError(f"{name}: {error}") from None


def _of_layers(
    stored: Mapping[str, StoredTensor], manifest: Manifest | None, names: NameTable
) -> dict[str, StoredTensor]:
    if manifest is None:
        return {}
    prefixes = tuple(f"{names.to_checkpoint(name)}." for name in manifest.layers)
    return {name: entry for name, entry in stored.items() if name.startswith(prefixes)}


def _part(checkpoint_name: str, names: NameTable) -> str:
    """The part of the model that a tensor is in, by our names; `unused` where no action depends on it."""
    if names.is_unused(checkpoint_name):
        return "unused"
    ours = names.from_checkpoint(checkpoint_name)
    if ours is None:
        return "unknown"
    part = ".".join(ours.split(".")[: 1 if ours.startswith("adapter") else 2])
    return f"{part}.embed_tokens" if "embed_tokens" in ours else part


def _summed(sizes: Any) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for kind, size in sizes:
        total[kind] += size
    return dict(sorted(total.items()))
