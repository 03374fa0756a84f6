"""Which layers of a GR00T are quantized where no variable says so. Imports no torch.

All linear layers of the language model and those of the diffusion transformer's MLPs; never the vision tower,
the diffusion transformer's attention, norms, embeddings or heads.
"""

from __future__ import annotations

import re

from gr00t.quantization.settings.environment import DuQuantConfig

INCLUDE = (
    r".*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*"
)
EXCLUDE = r"(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\."

# What `DuQuantConfig.from_environ` and `enable_duquant_if_configured` are given for a GR00T.
DEFAULTS = DuQuantConfig(include=re.compile(INCLUDE), exclude=re.compile(EXCLUDE))
