"""torch.compile for what runs between the quantized layers: norms, attention, activations, residuals.

A quantized layer is one operator to the compiler, as it is to eager execution, and stays what it is. What is
fused around it is rounded at other places, so answers differ from eager ones in the last bits, and where such
a bit moves an activation to the next code, by a step of the grid.
"""

from __future__ import annotations

import torch

from gr00t.model.gr00t_n1 import GR00T_N1_5


def compile_model(model: GR00T_N1_5, backend: str = "inductor") -> None:
    """Let the four parts of the model be compiled, in place, when they first run.

    Args:
        model: complete, on its device, quantized or not.
        backend: of torch.compile.
    """
    backbone, head = model.backbone, model.action_head
    for part in (backbone.vision, backbone.language_model, model.adapter):
        if part is not None:
            part.compile(backend=backend)
    head.velocity = torch.compile(head.velocity, backend=backend)  # type: ignore[method-assign]
