"""What the 116 layers of the full-size model take when exported: computed from shapes alone."""

from __future__ import annotations

import math

import pytest

from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization import plan
from gr00t.quantization.numerics.storage import buffer_shapes
from gr00t.quantization.settings.environment import DuQuantConfig

BF16 = 1_812_185_088
# What was promised, rotations included.
AT_MOST = 550_000_000


# An export of random weights held 484,630,528 bytes in a file of 484,778,752 (Hadamard, block 16).
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ROTATION": "hadamard"}, 484_630_528),
        ({"ROTATION": "svd"}, 530_006_016),
        ({"ROTATION": "duquant"}, 528_551_936),
        ({"ROTATION": "duquant", "CALIB_STEPS": "32", "PERMUTE": "1"}, 529_928_308),
        ({"ROTATION": "none"}, 484_392_960),
        ({"ROTATION": "hadamard", "BLOCK": "8"}, 512_763_904),
    ],
)
def test_the_layers_fit_into_what_was_promised(full_size, settings, expected):
    environ = {f"GR00T_DUQUANT_{name}": text for name, text in {"CALIB_STEPS": "0", **settings}.items()}
    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    assert config is not None
    plans = plan(full_size[0], config.scheme, config.layer_filter, aliases=full_size[1])
    targets = [layer for layer in plans if layer.spec is not None]
    assert len(targets) == 116
    size = before = 0
    for target in targets:
        bias = 0 if target.linear.bias is None else 2 * target.linear.out_features
        before += 2 * target.linear.weight.numel() + bias
        size += bias + sum(
            math.prod(shape) * dtype.itemsize for shape, dtype in buffer_shapes(target.spec).values()
        )
    assert (size, before) == (expected, BF16)
    assert size < AT_MOST
