"""Linear layers in bfloat16 whose weights lie as oneDNN reads them.

`F.linear` lays a weight out anew on every call. Laid out once, it was 1.05 to 1.08 times as fast with 512
rows and more, 1.2 times with 49 and 1.5 times with one (2026-11-30, commit e565423, AMD EPYC Zen 4, torch
2.13, one thread).
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

_FIXED = "this model is packed for the processor that serves it: load it anew to change or to move it"


class PackedLinear(nn.Module):
    """`nn.Linear` for inference on this processor, with the same entries in `state_dict`.

    The numbers are those of `F.linear`, up to the order of the sums, which oneDNN chooses for either layout:
    on an AMD EPYC Zen 4 contiguous inputs gave the same bits (2026-11-30, commit e565423, torch 2.13). With a
    bias and an input that is not contiguous `F.linear` may round twice, before it adds the bias and after,
    where this rounds once.

    Attributes:
        not_quantizable: why; whoever looks for linear layers to quantize says so.
    """

    not_quantizable: ClassVar[str] = _FIXED

    def __init__(self, linear: nn.Linear, packed: Tensor | None = None) -> None:
        """Take the place of `linear`; `packed` is what `pack_weight` made of its weight, if that is done."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.train(linear.training)
        self._packed = pack_weight(linear.weight.detach()) if packed is None else packed

    @property
    def weight(self) -> NoReturn:
        """Not to be had: what is written into a copy would be lost. `state_dict` has one to read.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"{_FIXED}; to read the weight, take it from state_dict()")

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out).

        Raises:
            RuntimeError: the input has another width or dtype.
        """
        if x.shape[-1:] != (self.in_features,) or x.dtype != torch.bfloat16:
            raise RuntimeError(
                f"expected an input of shape (..., {self.in_features}) in torch.bfloat16, got "
                f"{tuple(x.shape)} in {x.dtype}"
            )
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y

    def transient_bytes(self) -> dict[int, int]:
        """Bytes held besides parameters and buffers, by tensor id: the packed weight."""
        return {id(self._packed): self._packed.numel() * self._packed.element_size()}

    def extra_repr(self) -> str:
        """Sizes, as `nn.Linear` shows them."""
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: oneDNN's order can be neither."""
        raise RuntimeError(_FIXED)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise RuntimeError(_FIXED)
        super().__setattr__(name, value)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self._packed.to_dense()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *_: Any) -> NoReturn:
        raise RuntimeError(_FIXED)

    def _apply(self, fn: Any, recurse: bool = True) -> NoReturn:
        raise RuntimeError(_FIXED)


def can_pack() -> bool:
    """Whether packing pays: on a CPU with bfloat16 in oneDNN."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_weight(weight: Tensor) -> Tensor:
    """Return a copy of a weight (out, in) in bfloat16 in oneDNN's order."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def pack_linears(model: nn.Module) -> int:
    """Pack every `nn.Linear` in bfloat16 of a model, in place, where that pays: on a CPU with oneDNN.

    Each weight is let go before the next is packed. Other dtypes stay, and so do layers with hooks, which
    would be lost.

    Returns:
        How many were packed.
    """
    if not can_pack():
        return 0
    # No list of the layers themselves: it would keep their weights.
    names = [
        name for name, module in model.named_modules() if type(module) is nn.Linear and _is_packable(module)
    ]
    for name in names:
        parent, _, child = name.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, child, PackedLinear(getattr(holder, child)))
    return len(names)


def _is_packable(linear: nn.Linear) -> bool:
    weight = linear.weight
    has_hooks = any(held for name, held in vars(linear).items() if name.endswith("_hooks"))
    plain = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and not weight.requires_grad
    return plain and not has_hooks
