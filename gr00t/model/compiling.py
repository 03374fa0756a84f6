"""torch.compile for what runs between the quantized layers: norms, attention, activations, residuals.

A quantized layer is one operator to the compiler, as it is to eager execution, and stays what it is. What is
fused around it is rounded at other places, so answers differ from eager ones in the last bits, and where such
a bit moves an activation to the next code, by a step of the grid.
"""

from __future__ import annotations

import torch

from gr00t.model.network.model import Gr00tModel


def compile_model(model: Gr00tModel, backend: str = "inductor") -> None:
    """Let the four parts of the model be compiled, in place, when they first run.

    Args:
        model: complete, on its device, quantized or not.
        backend: of torch.compile.
    """
    backbone, head = model.backbone, model.action_head
    parts = [backbone.get_submodule(name) for name in ("vision", "language_model")]
    for part in parts if model.adapter is None else [*parts, model.adapter]:
        part.compile(backend=backend)
    head.velocity = torch.compile(head.velocity, backend=backend)  # type: ignore[method-assign]
