"""Which family a checkpoint is of, by its config.json: those that are opened here, and others by their names.

GR00T has neighbours whose files look alike. What their weights would make of another architecture is at best
an error about shapes; a name and where to go is more use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gr00t.model.checkpoint.names import N1_5_NAMES, N1_7_NAMES, NameTable

# What `type` or `model_type` of config.json says, without case and punctuation.
_OF_NVIDIA = {
    "gr00tn1": "GR00T N1",
    "gr00tn16": "GR00T N1.6",
    "gr00tn1d6": "GR00T N1.6",
}
_OF_LEROBOT = {
    "act": "an ACT policy",
    "diffusion": "a Diffusion Policy",
    "multitaskdit": "a multi-task DiT policy",
    "pi0": "a pi0 policy",
    "pi0fast": "a pi0-FAST policy",
    "pi05": "a pi0.5 policy",
    "rewardclassifier": "a reward classifier",
    "sac": "a SAC policy",
    "sarm": "a SARM reward model",
    "smolvla": "a SmolVLA policy",
    "tdmpc": "a TD-MPC policy",
    "vqbet": "a VQ-BeT policy",
    "wallx": "a WALL-X policy",
    "xvla": "an X-VLA policy",
}
# Other versions of GR00T, as lerobot's later releases name them in `model_version` and `base_model_path`.
_OTHER_VERSION = re.compile(r"n?1[._d]?(6|7)", re.IGNORECASE)
_OTHER_BASE = re.compile(r"gr00t[-_]?n1[._d]?(6|7)(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Family:
    """A family of checkpoints that can be opened.

    Attributes:
        name: what people call it.
        model_type: what its config.json says.
        names: our names of its weights, and NVIDIA's.
    """

    name: str
    model_type: str
    names: NameTable


N1_5 = Family("GR00T N1.5", "gr00t_n1_5", N1_5_NAMES)
N1_7 = Family("GR00T N1.7", "Gr00tN1d7", N1_7_NAMES)
FAMILIES = (N1_5, N1_7)
SUPPORTED = " and ".join(family.name for family in FAMILIES)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a config.json that `other_family` knows nothing else about."""
    return next((family for family in FAMILIES if family.model_type == config.get("model_type")), N1_5)


def other_family(config: Mapping[str, Any]) -> str | None:
    """What a config.json describes, and where that runs, in words; None where it may be opened here.

    Args:
        config: of NVIDIA's layout (`model_type`), or of a policy of lerobot (`type`).
    """
    kind, model_type = config.get("type"), config.get("model_type")
    if kind == "groot":
        version = _OTHER_VERSION.fullmatch(str(config.get("model_version")))
        version = version or _OTHER_BASE.search(str(config.get("base_model_path")))
        if version is None:
            return None
        return f"GR00T N1.{version[1]} as lerobot 0.6 and later train it; serve it with that lerobot"
    if kind is not None:
        what = _OF_LEROBOT.get(_plain(kind), f"a policy of type {kind!r}")
        return f"{what} of lerobot; serve it with lerobot"
    if model_type is None or any(family.model_type == model_type for family in FAMILIES):
        return None
    if (version_of_nvidia := _OF_NVIDIA.get(_plain(model_type))) is not None:
        return f"{version_of_nvidia}; serve it with NVIDIA's Isaac-GR00T of that version"
    return f"a model of type {model_type!r}"


def names_n1_7(hub_id: str) -> bool:
    """Whether the name of a checkpoint that cannot be looked at says that it is GR00T N1.7."""
    found = _OTHER_BASE.search(hub_id)
    return found is not None and found[1] == "7"


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
