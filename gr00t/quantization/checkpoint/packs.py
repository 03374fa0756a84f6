"""PACKDIR: one safetensors file per layer, so that the next start quantizes nothing.

It holds the layer's buffers and, where they were recorded, the statistics of its input. Statistics belong to
the weight, not to the settings: a layer that is rebuilt for other settings is rebuilt by them.

A pack is used only for the weight and the settings it was made from, and only if its data are those that
were written: all three are hashed into its metadata, and values are checked besides (`soundness`). It is read
into memory once, so nothing that happens to the file later reaches the layer. Anything else found under its
name, a truncated file included, is rebuilt with a line that says why. Files are written under a temporary
name and renamed, so a killed process leaves no half pack and two processes may share a folder. What cannot be
written is said once; the model is then quantized as without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from gr00t.files.atomic import replace_file
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.tensor_file import read_tensors
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.soundness import UnsoundError, check_state, check_statistics
from gr00t.quantization.numerics.statistics import SAMPLED_ROWS, InputStatistics
from gr00t.quantization.settings.spec import LARGEST_BLOCK, LinearSpec

logger = logging.getLogger(__name__)

_FORMAT = "duquant-pack 2"
_STATISTICS = "statistics."


class _Pack(NamedTuple):
    """What was found under a name, as far as it is what was written.

    Attributes:
        metadata: of the file.
        state: the layer's buffers, or None where they are damaged.
        statistics: of its input, or None where there are none.
        fault: why `state` is None, for the log.
    """

    metadata: dict[str, str]
    state: dict[str, Tensor] | None
    statistics: InputStatistics | None
    fault: str = ""


class PackStore:
    """The packs in one folder, by layer name. Without a folder nothing is read or written."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writable = folder is not None
        self._restored: set[str] = set()  # layers are built by several threads at a time
        self._made: dict[str, dict[str, str]] = {}  # what each layer was made from, as its metadata say
        self._hashes: dict[str, str] = {}

    @property
    def restored(self) -> int:
        """How many layers came from their packs."""
        return len(self._restored)

    @property
    def sha256(self) -> str:
        """SHA-256 of what all layers are, restored or quantized anew alike, as of their last `update`."""
        return hashlib.sha256(json.dumps(self._hashes, sort_keys=True).encode()).hexdigest()

    def layer(
        self,
        name: str,
        linear: nn.Linear,
        spec: LinearSpec,
        statistics: InputStatistics | None = None,
        rotation_absorbed: Tensor | None = None,
    ) -> DuQuantLinear:
        """Return the quantized `linear`: from its pack where that fits, else quantized now and packed.

        Args:
            name: of the layer.
            linear: the layer.
            spec: how to quantize it; `informed` is set here.
            statistics: of its input, if they were recorded just now; else those in its pack are used.
            rotation_absorbed: what its input arrives rotated by, where `spec.absorbs`.
        """
        layer, self._hashes[name] = self._layer(name, linear, spec, statistics, rotation_absorbed)
        return layer

    def update(self, name: str, layer: DuQuantLinear) -> None:
        """Write the state of `layer`, calibrated meanwhile, into its pack.

        Only into the very pack that it was built with: one that was damaged meanwhile, or written for other
        settings by another process, stays as it is, with a line in the log.
        """
        state = layer.packed_state()
        self._hashes[name] = _hash_all(state)
        pack = self._read(name, layer.spec, "its static scales are not kept")
        if pack is None:
            return
        fault = pack.fault or _difference(pack, self._made[name])
        try:
            check_state(state, layer.spec)
        except UnsoundError as error:
            fault = f"is not written: the layer is damaged ({error})"
        if fault:
            logger.warning("[GR00T-DUQUANT] Pack of %s %s; its static scales are not kept", name, fault)
            return
        self._write(name, state, pack.statistics, self._made[name])

    def holds(self, name: str, layer: DuQuantLinear) -> bool:
        """Whether the pack of `name`, read anew, is what `layer` is now, bit for bit."""
        pack = self._read(name, layer.spec)
        if pack is None or pack.state is None or (pack.statistics is not None) != layer.spec.informed:
            return False
        kept, state = pack.state, layer.packed_state()
        return kept.keys() == state.keys() and all(
            torch.equal(kept[key], value.cpu()) for key, value in state.items()
        )

    def bytes_on_disk(self, name: str) -> int:
        """Size of the pack of `name`; 0 where there is none."""
        path = self._path(name)
        return path.stat().st_size if path is not None and path.is_file() else 0

    def _layer(
        self,
        name: str,
        linear: nn.Linear,
        spec: LinearSpec,
        statistics: InputStatistics | None,
        rotation_absorbed: Tensor | None,
    ) -> tuple[DuQuantLinear, str]:
        """Return the layer and the hash of its state."""
        if self._folder is None:
            spec = dataclasses.replace(spec, informed=statistics is not None)
            layer = DuQuantLinear.from_linear(linear, spec, statistics, rotation_absorbed)
            return layer, _hash_all(layer.packed_state())
        weight = _weight_hash(linear.weight)
        pack = self._read(name, spec)
        if statistics is None and pack is not None and pack.metadata.get("weight") == weight:
            statistics = pack.statistics
        spec = dataclasses.replace(spec, informed=statistics is not None)
        wanted = {"weight": weight, "settings": _settings(spec, rotation_absorbed, statistics)}
        self._made[name] = wanted
        restored = None if pack is None else self._restore(name, pack, wanted, linear, spec)
        if pack is not None and restored is not None:
            self._restored.add(name)
            return restored, pack.metadata["state_sha256"]  # compared as it was read
        layer = DuQuantLinear.from_linear(linear, spec, statistics, rotation_absorbed)
        state = layer.packed_state()
        self._hashes[name] = _hash_all(state)
        self._write(name, state, statistics, wanted)
        return layer, self._hashes[name]

    def _restore(
        self, name: str, pack: _Pack, wanted: dict[str, str], linear: nn.Linear, spec: LinearSpec
    ) -> DuQuantLinear | None:
        fault = pack.fault or _difference(pack, wanted)
        if not fault:
            assert pack.state is not None
            try:
                return DuQuantLinear.from_state(linear, spec, pack.state)
            except UnsoundError as error:
                fault = f"cannot be used ({error})"
        logger.info("[GR00T-DUQUANT] Pack of %s %s; rebuilt", name, fault)
        return None

    def _read(self, name: str, spec: LinearSpec, consequence: str = "rebuilt") -> _Pack | None:
        """Read the pack of `name` into memory; None, with a line in the log, where it is of no use at all."""
        path = self._path(name)
        if path is None or not os.path.lexists(path):
            return None
        try:
            if not path.is_file():
                raise OSError("it is no file")
            if path.stat().st_size > _largest_pack(spec):
                raise OSError(f"{path.stat().st_size:,} bytes are too many for such a layer")
            header, tensors = read_tensors(path)
        except (ArtefactError, OSError, MemoryError) as error:
            fault = f"cannot be read ({error})"
        else:
            metadata = header.metadata
            recorded, state = _split(tensors)
            if metadata.get("format") != _FORMAT:
                fault = f"is of format {metadata.get('format', 'unknown')!r}, this version writes {_FORMAT!r}"
            elif metadata.get("statistics_sha256") != _hash_all(recorded):
                fault = "is damaged (the statistics in it are not those written)"
            else:
                try:
                    statistics = _statistics(recorded)
                except UnsoundError as error:
                    fault = f"cannot be used ({error})"
                else:
                    if metadata.get("state_sha256") == _hash_all(state):
                        return _Pack(metadata, state, statistics)
                    return _Pack(metadata, None, statistics, "is damaged (its data are not those written)")
        logger.warning("[GR00T-DUQUANT] Pack of %s %s; %s", name, fault, consequence)
        return None

    def _write(
        self,
        name: str,
        state: Mapping[str, Tensor],
        statistics: InputStatistics | None,
        made: Mapping[str, str],
    ) -> None:
        path = self._path(name)
        if path is None or not self._writable:
            return
        recorded = _named(statistics)
        metadata = {
            **{"format": _FORMAT, **made},
            **{"state_sha256": self._hashes[name], "statistics_sha256": _hash_all(recorded)},
        }
        tensors = {key: value.cpu().contiguous() for key, value in (*state.items(), *recorded.items())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written by ourselves: safetensors would let only the owner read it, whatever the umask says.
            replace_file(path, save(tensors, metadata))
        except (OSError, SafetensorError) as error:
            if isinstance(error, IsADirectoryError):
                logger.warning("[GR00T-DUQUANT] Pack of %s cannot be written (%s)", name, error)
                return
            self._writable = False  # said once; the packs written so far are whole
            logger.warning(
                "[GR00T-DUQUANT] PACKDIR %s cannot be written (%s); going on without", self._folder, error
            )

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.safetensors"


def _largest_pack(spec: LinearSpec) -> int:
    """Bytes that no pack of a layer of this shape exceeds, whatever its settings: so much may be read."""
    n, k = spec.out_features, spec.in_features
    rotations = (3 * k + n + 4 * LARGEST_BLOCK) * LARGEST_BLOCK * 4
    return 2 * n * k + rotations + 4 * n + 4 * k * (SAMPLED_ROWS + 4) + (1 << 20)


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The recorded statistics among the tensors of a pack, and the buffers."""
    recorded = {key: value for key, value in tensors.items() if key.startswith(_STATISTICS)}
    return recorded, {key: value for key, value in tensors.items() if key not in recorded}


def _statistics(recorded: Mapping[str, Tensor]) -> InputStatistics | None:
    if not recorded:
        return None
    peak, sample = (recorded.get(_STATISTICS + key) for key in InputStatistics._fields)
    if peak is None or sample is None or len(recorded) > len(InputStatistics._fields):
        raise UnsoundError(f"{', '.join(sorted(recorded))}: no statistics of an input")
    statistics = InputStatistics(peak, sample)
    check_statistics(statistics, peak.numel())
    return statistics


def _difference(pack: _Pack, wanted: Mapping[str, str]) -> str:
    """Say what a pack was made from, other than wanted; empty where there is no difference."""
    differing = [key for key in wanted if pack.metadata.get(key) != wanted[key]]
    return f"is for another {' and '.join(differing)}" if differing else ""


def _named(statistics: InputStatistics | None) -> dict[str, Tensor]:
    if statistics is None:
        return {}
    return {_STATISTICS + key: value for key, value in statistics._asdict().items()}


def _weight_hash(weight: Tensor) -> str:
    return _hash(f"{weight.dtype}{tuple(weight.shape)}", weight)


def _settings(spec: LinearSpec, rotation_absorbed: Tensor | None, statistics: InputStatistics | None) -> str:
    """Everything besides the weight that changes a number, as text."""
    settings = dataclasses.asdict(spec)
    if rotation_absorbed is not None:
        settings["rotation_absorbed"] = _hash("", rotation_absorbed)
    if statistics is not None:
        settings["statistics"] = _hash("", statistics.rows())
    return json.dumps(settings, sort_keys=True)


def _hash_all(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, dtypes, shapes and bytes of tensors."""
    parts = {name: _hash(f"{tensor.dtype}{tuple(tensor.shape)}", tensor) for name, tensor in tensors.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hash(prefix: str, tensor: Tensor) -> str:
    digest = hashlib.sha256(prefix.encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
