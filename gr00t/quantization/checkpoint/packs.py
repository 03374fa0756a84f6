"""PACKDIR: the layers of a model as files, so that the next start quantizes nothing.

A pack holds the layer's buffers and, where they were recorded, the statistics of its input; the rows to round
it by, which layers share, lie beside the packs. Statistics belong to the weight, not to the settings: a layer
that is rebuilt for other settings is rebuilt by them.

A pack is used only for the weight and the settings it was made from, and only if its data are those that
were written: `duquant.json` says all three (`pack_folder`), and values are checked besides (`soundness`). It
is read into memory once, so nothing that happens to the file later reaches the layer. Anything else found
under its name, a truncated file included, is rebuilt with a line that says why. A killed process leaves no
half pack, and two processes may share a folder. What cannot be written is said once; the model is then
quantized as without it.

What a calibration has left is never written over by less: where recorded inputs cannot be read, be it for
once, a layer is quantized without them for this start, and its pack stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest_values import digest
from gr00t.quantization.checkpoint.pack_entry import difference, knows_more, made_from, weight_hash
from gr00t.quantization.checkpoint.pack_folder import STATISTICS, LostSidecarError, PackFolder
from gr00t.quantization.checkpoint.tensor_file import hash_all
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.older_storage import packed_today
from gr00t.quantization.numerics.soundness import UnsoundError, check_state, check_statistics
from gr00t.quantization.numerics.statistics import (
    SAMPLED_ROWS,
    InputsLostError,
    InputStatistics,
    informed_by,
)
from gr00t.quantization.settings.options import Rounding
from gr00t.quantization.settings.spec import LARGEST_BLOCK, LinearSpec

logger = logging.getLogger(__name__)


class _Pack(NamedTuple):
    """What was found under a name, as far as it is what was written.

    Attributes:
        entry: what is said of it.
        state: the layer's buffers, or None where they are damaged.
        statistics: of its input, or None where there are none.
        fault: why `state` is None, for the log.
    """

    entry: dict[str, Any]
    state: dict[str, Tensor] | None
    statistics: InputStatistics | None
    fault: str = ""


class PackStore:
    """The packs in one folder, by layer name. Without a folder nothing is read or written.

    Args:
        folder: of the packs.
        anew: see `PackFolder`.

    Attributes:
        damaged: names of layers whose packs cannot be used, whatever they are for.
        kept: names of layers quantized without recorded inputs that their packs, left as they are, know of.

    Raises:
        ArtefactError: as `PackFolder`.
    """

    def __init__(self, folder: Path | None, *, anew: bool = False) -> None:
        self._folder = None if folder is None else PackFolder(folder, anew=anew)
        self.damaged: set[str] = set()
        self.kept: set[str] = set()
        self._writable = folder is not None
        self._restored: set[str] = set()  # layers are built by several threads at a time
        self._made: dict[str, dict[str, Any]] = {}  # what each layer was made from
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
            spec: how to quantize it; `informed` is set here, and `rounding` is nearest without inputs.
            statistics: of its input, if they were recorded just now; else those in its pack are used.
            rotation_absorbed: what its input arrives rotated by, where `spec.absorbs`.

        Raises:
            LostSidecarError: `duquant.json` has been damaged meanwhile.
        """
        layer, self._hashes[name] = self._layer(name, linear, spec, statistics, rotation_absorbed)
        return layer

    def update(self, name: str, layer: DuQuantLinear) -> None:
        """Write the state of `layer`, calibrated meanwhile, into its pack.

        Only into the very pack that it was built with: one that was damaged meanwhile, or written for other
        settings by another process, stays as it is, with a line in the log.
        """
        state = layer.packed_state()
        self._hashes[name] = hash_all(state)
        try:
            self._update(name, layer, state)
        except LostSidecarError as error:  # the model answers already, and goes on
            logger.warning("[GR00T-DUQUANT] The static scales of %s are not kept: %s", name, error)

    def _update(self, name: str, layer: DuQuantLinear, state: Mapping[str, Tensor]) -> None:
        pack = self._read(name, layer.spec, "its static scales are not kept")
        if pack is None:
            return
        fault = pack.fault or difference(pack.entry, self._made[name])
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
        kept, state = packed_today(pack.state, layer.spec), layer.packed_state()
        return kept.keys() == state.keys() and all(
            torch.equal(kept[key], value.cpu()) for key, value in state.items()
        )

    def recorded(self, name: str, weight: Tensor) -> InputStatistics | None:
        """Return what was recorded of the input of the layer with that weight; None where nothing was.

        Args:
            name: of the layer.
            weight: (N, K), in the dtype that the pack was made from.
        """
        pack = self._read(name, LinearSpec(weight.shape[1], weight.shape[0]), "its statistics are not used")
        if pack is None or pack.entry["made_from"].get("weight") != weight_hash(weight):
            return None
        return pack.statistics

    def bytes_on_disk(self, name: str) -> int:
        """Size of the pack of `name`; 0 where there is none."""
        path = None if self._folder is None else self._folder.path(name)
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
            layer = DuQuantLinear.from_linear(
                linear, informed_by(spec, statistics), statistics, rotation_absorbed
            )
            return layer, hash_all(layer.packed_state())
        weight = weight_hash(linear.weight)
        given = statistics is not None
        pack = self._read(name, spec)
        if statistics is None and pack is not None and pack.entry["made_from"].get("weight") == weight:
            statistics = pack.statistics
        wanted = made_from(weight, informed_by(spec, statistics), rotation_absorbed, statistics)
        self._made[name] = wanted
        known = informed_by(spec, statistics)
        restored = None if pack is None else self._restore(name, pack, wanted, linear, known, statistics)
        if pack is not None and restored is not None:
            self._restored.add(name)
            inputs = None if statistics is None else statistics.inputs
            if inputs is not None:  # which may be damaged where the pack is not
                self._try_to_write(name, lambda folder: folder.write_inputs(inputs))
            return restored, str(pack.entry["state_sha256"])  # compared as it was read
        statistics = self._with_inputs(name, informed_by(spec, statistics), statistics)
        wanted = made_from(weight, informed_by(spec, statistics), rotation_absorbed, statistics)
        self._made[name] = wanted
        layer = DuQuantLinear.from_linear(
            linear, informed_by(spec, statistics), statistics, rotation_absorbed
        )
        state = layer.packed_state()
        self._hashes[name] = hash_all(state)
        if not given and knows_more(self._folder.said(name), wanted):
            self.kept.add(name)
        else:
            self._write(name, state, statistics, wanted)
        return layer, self._hashes[name]

    def _with_inputs(
        self, name: str, spec: LinearSpec, statistics: InputStatistics | None
    ) -> InputStatistics | None:
        """Return statistics with rows to round by that can be read, else without any, and a warning."""
        if statistics is None or statistics.inputs is None or spec.rounding is not Rounding.FEEDBACK:
            return statistics
        try:
            statistics.inputs.load()
        except InputsLostError as error:
            logger.warning(
                "[GR00T-DUQUANT] %s is rounded to nearest: its recorded inputs cannot be read (%s)",
                name,
                error,
            )
            return statistics._replace(inputs=None)
        return statistics

    def _restore(
        self,
        name: str,
        pack: _Pack,
        wanted: dict[str, Any],
        linear: nn.Linear,
        spec: LinearSpec,
        statistics: InputStatistics | None,
    ) -> DuQuantLinear | None:
        fault = pack.fault or difference(pack.entry, wanted)
        if not fault:
            assert pack.state is not None
            try:
                return DuQuantLinear.from_state(linear, spec, pack.state, statistics)
            except UnsoundError as error:
                fault = f"cannot be used ({error})"
                self.damaged.add(name)
        logger.info("[GR00T-DUQUANT] Pack of %s %s; rebuilt", name, fault)
        return None

    def _read(self, name: str, spec: LinearSpec, consequence: str = "rebuilt") -> _Pack | None:
        """Read the pack of `name` into memory; None, with a line in the log, where it is of no use at all."""
        if self._folder is None:
            return None
        try:
            found = self._folder.read(name, _largest_pack(spec))
        except LostSidecarError:
            raise
        except (ArtefactError, OSError, MemoryError) as error:
            fault = f"cannot be read ({error})"
        else:
            if found is None:
                return None
            entry, tensors = found
            recorded, state = _split(tensors)
            if entry["statistics_sha256"] != hash_all(recorded):
                fault = "is damaged (the statistics in it are not those written)"
            else:
                try:
                    statistics = self._statistics(recorded, entry)
                except UnsoundError as error:
                    fault = f"cannot be used ({error})"
                else:
                    if entry["state_sha256"] == hash_all(state):
                        return _Pack(entry, state, statistics)
                    self.damaged.add(name)
                    return _Pack(entry, None, statistics, "is damaged (its data are not those written)")
        self.damaged.add(name)
        logger.warning("[GR00T-DUQUANT] Pack of %s %s; %s", name, fault, consequence)
        return None

    def _statistics(self, recorded: Mapping[str, Tensor], entry: Mapping[str, Any]) -> InputStatistics | None:
        if not recorded:
            return None
        peak, sample = (recorded.get(STATISTICS + key) for key in ("peak", "sample"))
        if peak is None or sample is None or len(recorded) > 2:
            raise UnsoundError(f"{', '.join(sorted(recorded))}: no statistics of an input")
        inputs = entry["made_from"].get("inputs")
        assert self._folder is not None
        try:
            kept = None if inputs is None else self._folder.inputs(digest(inputs), peak.numel())
        except ValueError as error:
            raise UnsoundError(f"its inputs: {error}") from None
        statistics = InputStatistics(peak, sample, kept)
        check_statistics(statistics, peak.numel())
        return statistics

    def _write(
        self,
        name: str,
        state: Mapping[str, Tensor],
        statistics: InputStatistics | None,
        made: Mapping[str, Any],
    ) -> None:
        recorded = _named(statistics)
        entry = {
            **made,
            "state_sha256": self._hashes[name],
            "statistics_sha256": hash_all(recorded),
        }

        def write(folder: PackFolder) -> None:
            if statistics is not None and statistics.inputs is not None:
                folder.write_inputs(statistics.inputs)
            folder.write(name, entry, {**state, **recorded})

        self._try_to_write(name, write)

    def _try_to_write(self, name: str, write: Callable[[PackFolder], None]) -> None:
        if self._folder is None or not self._writable:
            return
        try:
            write(self._folder)
        except (OSError, SafetensorError) as error:
            if isinstance(error, IsADirectoryError):
                logger.warning("[GR00T-DUQUANT] Pack of %s cannot be written (%s)", name, error)
                return
            self._writable = False  # said once; the packs written so far are whole
            logger.warning(
                "[GR00T-DUQUANT] PACKDIR %s cannot be written (%s); going on without",
                self._folder.folder,
                error,
            )


def _largest_pack(spec: LinearSpec) -> int:
    """Bytes that no pack of a layer of this shape exceeds, whatever its settings: so much may be read."""
    n, k = spec.out_features, spec.in_features
    rotations = (3 * k + n + 4 * LARGEST_BLOCK) * LARGEST_BLOCK * 4
    return 2 * n * k + rotations + 4 * n + 4 * k * (SAMPLED_ROWS + 4) + (1 << 20)


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The recorded statistics among the tensors of a pack, and the buffers."""
    recorded = {key: value for key, value in tensors.items() if key.startswith(STATISTICS)}
    return recorded, {key: value for key, value in tensors.items() if key not in recorded}


def _named(statistics: InputStatistics | None) -> dict[str, Tensor]:
    if statistics is None:
        return {}
    return {STATISTICS + key: value for key, value in statistics.tensors().items()}
