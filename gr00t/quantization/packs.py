"""PACKDIR: one safetensors file per layer, so that the next start quantizes nothing.

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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.spec import LinearSpec

logger = logging.getLogger(__name__)

_FORMAT = "duquant-pack 1"


class PackStore:
    """The packs in one folder, by layer name. Without a folder nothing is read or written."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writable = folder is not None
        self.restored = 0

    def layer(self, name: str, linear: nn.Linear, spec: LinearSpec) -> DuQuantLinear:
        """Return the quantized `linear`: from its pack where that fits, else quantized now and packed."""
        if self._folder is None:
            return DuQuantLinear.from_linear(linear, spec)
        wanted = _metadata(linear.weight.detach(), spec)
        layer = self._restore(name, linear, spec, wanted)
        if layer is None:
            layer = DuQuantLinear.from_linear(linear, spec)
            self._write(name, layer, wanted)
        return layer

    def update(self, name: str, layer: DuQuantLinear) -> None:
        """Write the state of `layer`, calibrated meanwhile, into its pack."""
        path = self._path(name)
        if path is not None and path.is_file():
            with safe_open(path, "pt") as pack:
                metadata = pack.metadata()
            self._write(name, layer, metadata)

    def _restore(
        self, name: str, linear: nn.Linear, spec: LinearSpec, wanted: dict[str, str]
    ) -> DuQuantLinear | None:
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as pack:
                found = pack.metadata() or {}
                differing = [key for key in wanted if found.get(key) != wanted[key]]
                state = {} if differing else {key: pack.get_tensor(key) for key in pack.keys()}  # noqa: SIM118
            if differing:
                logger.info(
                    "[GR00T-DUQUANT] Pack of %s is for another %s; rebuilt", name, " and ".join(differing)
                )
                return None
            layer = DuQuantLinear.from_state(linear, spec, state)
        except (SafetensorError, ValueError, OSError) as error:
            logger.warning("[GR00T-DUQUANT] Pack of %s cannot be read (%s); rebuilt", name, error)
            return None
        self.restored += 1
        return layer

    def _write(self, name: str, layer: DuQuantLinear, metadata: dict[str, str]) -> None:
        path = self._path(name)
        if path is None or not self._writable:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        state: dict[str, Tensor] = {
            key: value.cpu().contiguous() for key, value in layer.packed_state().items()
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state, temporary, metadata)
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


def _metadata(weight: Tensor, spec: LinearSpec) -> dict[str, str]:
    """What a pack must have been made from: its format, the weight's bytes, and every setting that changes a
    number.
    """
    settings = {key: value for key, value in dataclasses.asdict(spec).items() if key != "execution"}
    data = weight.cpu().contiguous().view(torch.uint8).numpy()
    return {
        "format": _FORMAT,
        "weight": hashlib.sha256(
            f"{weight.dtype}{tuple(weight.shape)}".encode() + data.tobytes()
        ).hexdigest(),
        "settings": json.dumps(settings, sort_keys=True),
    }
