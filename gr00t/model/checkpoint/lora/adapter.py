"""The changes that an adapter makes to a checkpoint's weights: W + scale * B @ A, or another tensor in place.

Computed in float32 from the stored weight and rounded once, to the dtype of the model, as peft merges an
adapter in float32 into a layer of any dtype.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gr00t.model.checkpoint.folder_kind import ADAPTER_WEIGHTS
from gr00t.model.checkpoint.json_section import CheckpointError, refuse_special
from gr00t.model.checkpoint.lora.settings import LoraSettings, read_settings
from gr00t.model.checkpoint.weight_files import WRAPPED
from gr00t.model.checkpoint.weight_header import read_stored_tensors
from gr00t.spelling import did_you_mean

_PREFIX = "base_model.model."
# What peft puts between a module's name and its parameter's: A and B of a layer, or of an embedding.
_PART = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.default)?(?:\.(weight|bias))?")
# Around a parameter that was trained whole.
_WHOLE = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")
_LISTED = 4


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor: `whole` in its place, or `scale * up @ down` added.

    Attributes:
        whole: the tensor itself; None: it is changed by the others.
        down: A, (r, in).
        up: B, (out, r).
        scale: of their product.
        transposed: the tensor is stored (in, out), as embeddings are.
    """

    whole: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0
    transposed: bool = False

    def applied_to(self, tensor: Tensor) -> Tensor:
        """Return the changed tensor; float32 where something is added."""
        if self.whole is not None:
            return self.whole
        assert self.up is not None
        added = self.up.float() if self.down is None else self.up.float() @ self.down.float()
        return tensor.float() + (added.T if self.transposed else added) * self.scale

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that it fits."""
        if self.whole is not None:
            return tuple(self.whole.shape)
        assert self.up is not None
        if self.down is None:
            return tuple(self.up.shape)
        shape = (self.up.shape[0], self.down.shape[1])
        return shape[::-1] if self.transposed else shape


def read_adapter(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], is_unused: Callable[[str], bool]
) -> dict[str, Change]:
    """Read the changes of an adapter, by NVIDIA's name of the tensor that each is for.

    Args:
        folder: of the adapter.
        shapes: of every tensor that can be changed, by NVIDIA's name.
        is_unused: whether no action depends on a tensor of that name.

    Raises:
        CheckpointError: it is damaged, not plain LoRA, or for another model; what does not fit is listed.
    """
    settings = read_settings(folder)
    tensors = _read_tensors(folder)
    _refuse_other_tensors(folder, tensors)
    if magnitudes := [name for name in tensors if "lora_magnitude_vector" in name]:
        raise CheckpointError(f"{folder}: {magnitudes[0]}: DoRA; merge it with peft (merge_and_unload)")
    parts: dict[str, dict[str, Tensor]] = {}
    changes: dict[str, Change] = {}
    for name, tensor in tensors.items():
        module = name.removeprefix(_PREFIX)
        if (found := _PART.fullmatch(module)) is not None:
            kind = found[2] + (".bias" if found[3] == "bias" else "")
            its = parts.setdefault(found[1], {})
            if kind in its:
                raise CheckpointError(f"{folder}: {found[1]} has its lora_{kind} twice; which one is meant?")
            its[kind] = tensor
        else:
            _add(folder, changes, _own_name(_WHOLE.sub("", module)), Change(whole=tensor))
    for module, its in parts.items():
        for name, change in _of_module(folder, module, its, settings).items():
            _add(folder, changes, name, change)
    changes = {name: change for name, change in changes.items() if not is_unused(name)}
    _compare(folder, changes, shapes)
    _refuse_half(settings, changes, shapes)
    if not changes:
        raise CheckpointError(f"{folder}: the adapter changes nothing")
    return changes


def _add(folder: Path, changes: dict[str, Change], name: str, change: Change) -> None:
    if (other := changes.get(name)) is not None:
        ways = ("by LoRA" if its.whole is None else "as a whole" for its in (other, change))
        raise CheckpointError(f"{folder}: {name} is changed twice, {' and '.join(ways)}")
    changes[name] = change


def _refuse_half(
    settings: LoraSettings, changes: Mapping[str, Change], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse an adapter whose settings name modules of the model of which its file has none."""
    modules, changed = ({name.rpartition(".")[0] for name in names} for names in (shapes, changes))
    for target in settings.targets:
        ending = _own_name(target)
        meant = {name for name in modules if name == ending or name.endswith(f".{ending}")}
        if meant and not meant & changed:
            raise CheckpointError(
                f"{settings.file} says that {target} was trained, of which the adapter's file has nothing; "
                "the adapter is incomplete"
            )


def _of_module(
    folder: Path, module: str, parts: dict[str, Tensor], settings: LoraSettings
) -> dict[str, Change]:
    """The changes to one module by its A and B."""
    embedding = "embedding_A" in parts or "embedding_B" in parts
    names = ("embedding_A", "embedding_B") if embedding else ("A", "B")
    missing = [name for name in names if name not in parts]
    if missing:
        raise CheckpointError(f"{folder}: {module} has no lora_{missing[0]}; the adapter is incomplete")
    unknown = parts.keys() - {*names, "B.bias"}
    if unknown:
        raise CheckpointError(f"{folder}: {module}: lora_{min(unknown)} is not known here")
    down, up = (parts[name] for name in names)
    rank = settings.rank_of(module)
    if down.ndim != 2 or up.ndim != 2 or not down.shape[0] == up.shape[1] == rank:
        raise CheckpointError(
            f"{folder}: {module}: A is {tuple(down.shape)} and B {tuple(up.shape)}; expected ({rank}, in) "
            f"and (out, {rank}), since {settings.file} says rank {rank}"
        )
    scale, own = settings.scale_of(module), _own_name(module)
    changes = {f"{own}.weight": Change(down=down, up=up, scale=scale, transposed=embedding)}
    if "B.bias" in parts:
        changes[f"{own}.bias"] = Change(up=parts["B.bias"], scale=scale)
    return changes


def _compare(folder: Path, changes: Mapping[str, Change], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise one CheckpointError with everything of an adapter that the model does not have so."""
    problems = [
        f"{name}: the model has no such tensor; {did_you_mean(name, shapes)}"
        for name in changes
        if name not in shapes
    ]
    problems += [
        f"{name}: the adapter's is {change.shape}, the model's {tuple(shapes[name])}"
        for name, change in changes.items()
        if name in shapes and change.shape != tuple(shapes[name])
    ]
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise CheckpointError(
            f"{folder}: the adapter does not fit the checkpoint\n  " + "\n  ".join(problems[:_LISTED] + more)
        )


def _own_name(name: str) -> str:
    return name.removeprefix(WRAPPED)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of an adapter. As peft does, safetensors are taken where there are both."""
    safe, pickled = (folder / name for name in ADAPTER_WEIGHTS)
    if safe.exists():
        read_stored_tensors(safe)
        try:
            return load_file(safe)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{safe}: {error}") from None
    if not pickled.exists():
        raise CheckpointError(f"{folder} has no weights: neither {safe.name} nor {pickled.name}")
    refuse_special(pickled)
    try:
        # Tensors alone: anything else in a pickle might be a program.
        found = torch.load(pickled, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{pickled}: not only tensors, or damaged ({why}); save it as {safe.name}"
        ) from None
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise CheckpointError(f"{pickled}: expected tensors by name, got {type(found).__name__}")
    return {name: value.detach() for name, value in found.items()}


def _refuse_other_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what is not simply numbers of its own: a pickle may hold a tensor without any memory."""
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
        if not plain or not tensor.is_floating_point():
            raise CheckpointError(
                f"{folder}: {name}: expected plain floating-point numbers, got {tensor.dtype}"
                + ("" if plain else f", {tensor.layout} on {tensor.device}")
            )
        if not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{folder}: {name} holds inf or NaN")
