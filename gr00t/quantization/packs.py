"""PACKDIR: one safetensors file per layer, so that the next start quantizes nothing.

It holds the layer's buffers and, where they were recorded, the statistics of its input. Statistics belong to
the weight, not to the settings: a layer that is rebuilt for other settings is rebuilt by them.

A pack is used only for the weight and the settings it was made from: both are hashed into its metadata.
Anything else found under its name, a truncated file included, is rebuilt with a line that says why. Files are
written under a temporary name and renamed, so a killed process leaves no half pack and two processes may
share a folder. A folder that cannot be written is said once; the model is then quantized as without one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.spec import LinearSpec
from gr00t.quantization.statistics import InputStatistics

logger = logging.getLogger(__name__)

_FORMAT = "duquant-pack 1"
_STATISTICS = "statistics."


class _Pack(NamedTuple):
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def state(self) -> dict[str, Tensor]:
        return {key: value for key, value in self.tensors.items() if not key.startswith(_STATISTICS)}

    def statistics(self) -> InputStatistics | None:
        peak, sample = (self.tensors.get(_STATISTICS + key) for key in InputStatistics._fields)
        return None if peak is None or sample is None else InputStatistics(peak, sample)


class PackStore:
    """The packs in one folder, by layer name. Without a folder nothing is read or written."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writable = folder is not None
        self._restored: set[str] = set()  # layers are built by several threads at a time

    @property
    def restored(self) -> int:
        """How many layers came from their packs."""
        return len(self._restored)

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
        if self._folder is None:
            spec = dataclasses.replace(spec, informed=statistics is not None)
            return DuQuantLinear.from_linear(linear, spec, statistics, rotation_absorbed)
        weight = _weight_hash(linear.weight)
        pack = self._read(name)
        if statistics is None and pack is not None and pack.metadata.get("weight") == weight:
            statistics = pack.statistics()
        spec = dataclasses.replace(spec, informed=statistics is not None)
        settings = _settings(spec, rotation_absorbed, statistics)
        wanted = {"format": _FORMAT, "weight": weight, "settings": settings}
        if pack is not None:
            layer = self._restore(name, pack, wanted, linear, spec)
            if layer is not None:
                return layer
        layer = DuQuantLinear.from_linear(linear, spec, statistics, rotation_absorbed)
        self._write(name, layer.packed_state() | _named(statistics), wanted)
        return layer

    def update(self, name: str, layer: DuQuantLinear) -> None:
        """Write the state of `layer`, calibrated meanwhile, into its pack."""
        pack = self._read(name)
        if pack is not None:
            self._write(name, pack.tensors | layer.packed_state(), pack.metadata)

    def holds(self, name: str, layer: DuQuantLinear) -> bool:
        """Whether the pack of `name`, read anew, is what `layer` is now, bit for bit."""
        pack = self._read(name)
        if pack is None or (pack.statistics() is not None) != layer.spec.informed:
            return False
        kept, state = pack.state(), layer.packed_state()
        return kept.keys() == state.keys() and all(
            torch.equal(kept[key], value.cpu()) for key, value in state.items()
        )

    def bytes_on_disk(self, name: str) -> int:
        """Size of the pack of `name`; 0 where there is none."""
        path = self._path(name)
        return path.stat().st_size if path is not None and path.is_file() else 0

    def _restore(
        self, name: str, pack: _Pack, wanted: dict[str, str], linear: nn.Linear, spec: LinearSpec
    ) -> DuQuantLinear | None:
        differing = [key for key in wanted if pack.metadata.get(key) != wanted[key]]
        if differing:
            reason = f"is for another {' and '.join(differing)}"
        else:
            try:
                layer = DuQuantLinear.from_state(linear, spec, pack.state())
            except ValueError as error:
                reason = f"cannot be used ({error})"
            else:
                self._restored.add(name)
                return layer
        logger.info("[GR00T-DUQUANT] Pack of %s %s; rebuilt", name, reason)
        return None

    def _read(self, name: str) -> _Pack | None:
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                keys = file.keys()  # the handle is no mapping: it has to be asked
                return _Pack(file.metadata() or {}, {key: file.get_tensor(key) for key in keys})
        except (SafetensorError, OSError) as error:
            logger.warning("[GR00T-DUQUANT] Pack of %s cannot be read (%s); rebuilt", name, error)
            return None

    def _write(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        path = self._path(name)
        if path is None or not self._writable:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        state = {key: value.cpu().contiguous() for key, value in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written by ourselves: safetensors would let only the owner read it, whatever the umask says.
            temporary.write_bytes(save(state, metadata))
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            self._writable = False  # said once; the packs written so far are whole
            with contextlib.suppress(OSError):  # a folder that refuses writing may refuse this, too
                temporary.unlink()
            logger.warning(
                "[GR00T-DUQUANT] PACKDIR %s cannot be written (%s); going on without", self._folder, error
            )

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.safetensors"


def _named(statistics: InputStatistics | None) -> dict[str, Tensor]:
    if statistics is None:
        return {}
    return {_STATISTICS + key: value for key, value in statistics._asdict().items()}


def _weight_hash(weight: Tensor) -> str:
    return _hash(f"{weight.dtype}{tuple(weight.shape)}", weight)


def _settings(spec: LinearSpec, rotation_absorbed: Tensor | None, statistics: InputStatistics | None) -> str:
    """Everything besides the weight that changes a number, as text."""
    settings = {key: value for key, value in dataclasses.asdict(spec).items() if key != "execution"}
    if rotation_absorbed is not None:
        settings["rotation_absorbed"] = _hash("", rotation_absorbed)
    if statistics is not None:
        settings["statistics"] = _hash("", statistics.rows())
    return json.dumps(settings, sort_keys=True)


def _hash(prefix: str, tensor: Tensor) -> str:
    digest = hashlib.sha256(prefix.encode())
    digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
