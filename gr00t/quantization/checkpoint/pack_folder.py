"""The folder of packs: a plain safetensors file for each layer, and `duquant.json`, which says what they are.
Beside them, in `inputs`, the rows that layers are rounded by, each file under the hash of its rows.

A pack is there when `duquant.json` says so, and it says so last. Where that file is damaged, or gone from
beside packs that hold recorded inputs, nothing is read or written: all would be quantized anew without what a
calibration has left, and written over it. Processes and threads that share a folder
take turns (`files.locks`); where the file system knows no locks, one may lose what another says at the same
time: that layer is then quantized once more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gr00t.files.locks import wait_for_lock
from gr00t.quantization.checkpoint import version_1
from gr00t.quantization.checkpoint.checksums import ArtefactError, read_header
from gr00t.quantization.checkpoint.manifest import check_packdir
from gr00t.quantization.checkpoint.sidecar import FORMAT, SIDECAR, read_sidecar, write_sidecar
from gr00t.quantization.checkpoint.tensor_file import read_tensors, write_tensors
from gr00t.quantization.numerics.soundness import UnsoundError, checked_inputs
from gr00t.quantization.numerics.statistics import MOST_ROWS, InputRows, InputsLostError, hash_rows

# What the names of the tensors begin with that were recorded of a layer's input.
STATISTICS = "statistics."

# Folder of the rows to round by, in the folder of packs. Who needs no other packs may delete it.
INPUTS = "inputs"

# Bytes of a file of rows beside the rows, at most.
_HEADER = 4096

_ENTRY = {"spec", "made_from", "state_sha256", "statistics_sha256"}


class LostSidecarError(ArtefactError):
    """Packs of which `duquant.json` does not say any more what they are."""

    def __init__(self, fault: str) -> None:
        super().__init__(
            f"{fault}. Without it what a calibration has left in the packs beside it cannot be used, and "
            "would be written over: bring it back from a copy, or delete it with the packs and calibrate anew"
        )


@dataclasses.dataclass(frozen=True)
class RowsInFile:
    """Rows that a layer was called with, read when they are wanted; see `statistics.InputRows`."""

    path: Path
    sha256: str
    channels: int

    def load(self) -> Tensor:
        """Return the rows, (M, K) bfloat16.

        Raises:
            InputsLostError: they are not there, or not those that were recorded.
        """
        try:
            return self._read()
        except ArtefactError as error:
            raise InputsLostError(str(error)) from error
        except (OSError, UnsoundError, MemoryError) as error:
            raise InputsLostError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error

    def _read(self) -> Tensor:
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise OSError("it is no file")
        if found.st_size > MOST_ROWS * self.channels * 2 + _HEADER:
            raise OSError(f"{found.st_size:,} bytes are too many for {self.channels} channels")
        rows = read_tensors(self.path)[1].get("rows")
        if rows is None or rows.dtype != torch.bfloat16 or hash_rows(rows) != self.sha256:
            raise ArtefactError(f"{self.path}: not the inputs that were recorded")
        return checked_inputs(rows, self.channels)


class PackFolder:
    """The packs in one folder, by layer name.

    Args:
        folder: of the packs.
        anew: whether the inputs were recorded just now, so that none are needed that packs hold.

    Raises:
        ArtefactError: the folder is an exported model's (`manifest.check_packdir`).
        LostSidecarError: `duquant.json` is damaged, or gone.
    """

    def __init__(self, folder: Path, *, anew: bool = False) -> None:
        check_packdir(folder)
        self.folder = folder
        self._read_as: tuple[int, int, int] | None = None
        self._layers: dict[str, Any] = {}
        self._whole: set[str] = set()  # rows that this process has written, or found to be whole
        self._reading = threading.Lock()  # layers are built side by side
        if folder.is_dir():
            with self._turn(shared=True):  # nobody is between a pack and what is said of it
                self._entries()
                if not anew and not os.path.lexists(folder / SIDECAR):
                    self._check_nothing_is_lost()

    def path(self, name: str) -> Path:
        """Where the pack of a layer lies."""
        return self.folder / f"{name}.safetensors"

    def read(self, name: str, most_bytes: int) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return what is said of a pack, and its tensors; None where there is nothing of that name.

        Args:
            name: of the layer.
            most_bytes: of its file; a larger one is none of it.

        Raises:
            LostSidecarError: `duquant.json` has been damaged meanwhile.
            ArtefactError, OSError, MemoryError: it cannot be read, or nothing is said of it.
        """
        path = self.path(name)
        if not os.path.lexists(path):
            return None
        with self._turn(shared=True):
            if not path.is_file():
                raise OSError("it is no file")
            if path.stat().st_size > most_bytes:
                raise OSError(f"{path.stat().st_size:,} bytes are too many for such a layer")
            header, tensors = read_tensors(path)
            layers = self._entries()
        try:
            entry = version_1.pack_entry(header.metadata) or layers.get(name)
        except ValueError as error:
            raise ArtefactError(f"its metadata are damaged: {error}") from None
        if entry is None and (found := header.metadata.get("format", "pt")) != "pt":
            raise ArtefactError(f"its format is {found!r}, this version writes {FORMAT!r}")
        if entry is None:
            raise ArtefactError(f"{SIDECAR} says nothing of it, as after a write that did not end")
        if not isinstance(entry, dict) or entry.keys() != _ENTRY or not isinstance(entry["made_from"], dict):
            raise ArtefactError(f"{SIDECAR} says nothing usable of it")
        return entry, tensors

    def said(self, name: str) -> Mapping[str, Any]:
        """Return what `duquant.json` says a pack was made from, whether or not it can be read.

        Raises:
            LostSidecarError: as `read`.
        """
        entry = self._entries().get(name)
        made_from = entry.get("made_from") if isinstance(entry, dict) else None
        return made_from if isinstance(made_from, dict) else {}

    def write(self, name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write a pack, and what is said of it last.

        Raises:
            LostSidecarError: as `read`; nothing is written.
            OSError, SafetensorError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._turn(shared=False):
            others = self._entries()
            write_tensors(self.path(name), tensors)
            write_sidecar(self.folder, "packs", {"layers": {**others, name: entry}})

    def inputs(self, sha256: str, channels: int) -> RowsInFile:
        """Return the rows of that hash, whether or not there is such a file."""
        return RowsInFile(self.folder / INPUTS / f"{sha256[:32]}.safetensors", sha256, channels)

    def write_inputs(self, inputs: InputRows) -> None:
        """Write rows to round by, once for all layers called with them, in place of damaged ones.

        Raises:
            OSError, SafetensorError: they cannot be written.
        """
        if isinstance(inputs, RowsInFile) or inputs.sha256 in self._whole:
            return
        rows = inputs.load()
        kept = self.inputs(inputs.sha256, rows.shape[-1])
        kept.path.parent.mkdir(parents=True, exist_ok=True)
        with self._turn(shared=False):
            try:
                kept.load()
            except InputsLostError:
                write_tensors(kept.path, {"rows": rows})
        self._whole.add(inputs.sha256)

    @contextlib.contextmanager
    def _turn(self, *, shared: bool) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            wait_for_lock(handle, shared=shared)
            yield
        finally:
            os.close(handle)

    def _entries(self) -> dict[str, Any]:
        """What `duquant.json` says of each layer; nothing where there is none."""
        path = self.folder / SIDECAR
        with self._reading:
            if not os.path.lexists(path):
                return {}
            status = os.lstat(path)
            read_as = (status.st_ino, status.st_mtime_ns, status.st_size)
            if read_as != self._read_as:
                self._layers, self._read_as = self._read_entries(path), read_as
            return self._layers

    def _read_entries(self, path: Path) -> dict[str, Any]:
        try:
            layers = (read_sidecar(self.folder, "packs") or {}).get("layers")
            if not isinstance(layers, dict):
                raise ArtefactError(f"{path}: expected layers, got {layers!r:.80}")
        except ArtefactError as error:
            raise LostSidecarError(str(error)) from error
        return layers

    def _check_nothing_is_lost(self) -> None:
        """Refuse packs with recorded inputs, of which nothing is said, neither here nor in themselves."""
        lost = [path.stem for path in sorted(self.folder.glob("*.safetensors")) if _holds_statistics(path)]
        if lost:
            raise LostSidecarError(
                f"{self.folder / SIDECAR}: no such file, though {len(lost)} packs with recorded inputs are "
                f"there, as of {', '.join(lost[:3])}"
            )


def _holds_statistics(path: Path) -> bool:
    try:
        header = None if not path.is_file() else read_header(path)
    except (ArtefactError, OSError):  # what cannot be read is no pack, and told when its layer is built
        return False
    return header is not None and (
        header.metadata.get("format", "pt") == "pt"
        and any(name.startswith(STATISTICS) for name in header.tensors)
    )
