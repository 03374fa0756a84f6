"""Which layers of a GR00T are quantized where no variable says so, and the scope that goes beyond them.

By default all linear layers of the language model and those of the diffusion transformer's MLPs; never the
vision tower, the diffusion transformer's attention, norms, embeddings or heads. The scope `wide` takes
vision, connector, adapter and the diffusion transformer's attention, too. It is a name for variables that
exist already, holds only where somebody asks for it, and is no setting of the document. Imports no torch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

from gr00t.quantization.settings.environment import DuQuantConfig
from gr00t.quantization.settings.layer_filter import LayerFilter

logger = logging.getLogger(__name__)

INCLUDE = (
    r".*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*"
)
EXCLUDE = r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\."

# What `DuQuantConfig.from_environ` and `enable_duquant_if_configured` are given for a GR00T.
DEFAULTS = DuQuantConfig(include=re.compile(INCLUDE), exclude=re.compile(EXCLUDE))

_ATTENTION = tuple(f"{name}_proj" for name in ("q", "k", "v", "o"))
# At 8 bits these layers raise the error of the actions from 5.0 to 5.6 %, at 4 bits to 8.7 %
# (docs/QUALITY.md, section 5).
_BITS = 8
_WIDE, _FLOAT = f"W{_BITS} A8", "W16 A16"
# The full-size model's vision tower has 27 blocks, and no other part has more.
_MOST_BLOCKS = 27


class ScopePart(NamedTuple):
    """A part of the model beyond the documented layers.

    Attributes:
        beginning: of the names of its layers, `#` for the number of the block.
        ends: how these names go on, if they do.
    """

    beginning: str
    ends: tuple[str, ...] = ()

    @property
    def expression(self) -> str:
        """What its layers' names match and no others."""
        beginning = re.escape(self.beginning).replace(r"\#", r"\d+")
        ends = f"({'|'.join(map(re.escape, self.ends))})" if self.ends else ""
        return f"^{beginning}{ends}$"

    @property
    def rule(self) -> str:
        """How WBITS names its layers."""
        return self.beginning.replace("#", "*") + ("*" if self.ends else "")

    def met_by(self, layer_filter: LayerFilter) -> bool:
        """Whether a filter takes any of its layers."""
        names = (
            self.beginning.replace("#", str(block)) + end
            for block in range(_MOST_BLOCKS)
            for end in self.ends or ("",)
        )
        return any(layer_filter.judge(name)[0] for name in names)


BEYOND = {
    "vision": ScopePart(
        "backbone.vision.encoder.layers.#.",
        (*(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2"),
    ),
    "connector": ScopePart("backbone.connector"),
    "adapter": ScopePart(
        "adapter.layers.#.", (*(f"attn.{name}" for name in _ATTENTION), "mlp.up_proj", "mlp.down_proj")
    ),
    "DiT attention": ScopePart("action_head.layers.#.attn.", _ATTENTION),
}
# By name, as variables less their prefix: what `--scope NAME` puts beside the variables of the user.
SCOPES: dict[str, dict[str, str]] = {
    "document": {},
    "wide": {
        "INCLUDE": "|".join((INCLUDE, *(part.expression for part in BEYOND.values()))),
        "EXCLUDE": r"(?:^|\.)(radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)",
        "WBITS": ",".join(f"{part.rule}:{_BITS}" for part in BEYOND.values()),
    },
}


def log_scope(layers: Mapping[str, str], config: DuQuantConfig) -> None:
    """Say in the log how many layers are quantized beyond the documented ones, if any are.

    Args:
        layers: bits of the layers that were taken, as `LinearSpec.bits` says them; those of 16 do not count.
        config: the settings that took them.
    """
    taken = [name for name, bits in layers.items() if bits != _FLOAT]
    beyond = [name for name in taken if not DEFAULTS.layer_filter(None, name)]
    if not beyond:
        return
    counts = {
        part: sum(re.search(whose.expression, name) is not None for name in beyond)
        for part, whose in BEYOND.items()
    }
    counts["other"] = len(beyond) - sum(counts.values())
    told = ", ".join(f"{part} {count}" for part, count in counts.items() if count or part in BEYOND)
    bits = sorted({layers[name] for name in beyond})
    if bits != [_WIDE]:
        told += f"; at {', '.join(bits)}"
    is_wide = config.include is not None and config.include.pattern == SCOPES["wide"]["INCLUDE"]
    logger.info(
        "[GR00T-DUQUANT] %s: %d layers beyond the document's %d (%s)",
        "Scope wide" if is_wide else "Layers of your own choice",
        len(beyond),
        len(taken) - len(beyond),
        told,
    )
