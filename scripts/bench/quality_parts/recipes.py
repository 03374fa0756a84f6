"""The rows of the table: settings as a server would be started with, and models quantized by them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from gr00t.quantization import DuQuantConfig, select_targets, wrap_duquant
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.environment import PREFIX
from gr00t.quantization.settings.options import Rotation

EVERY_LAYER = {"ENABLE": "1", "INCLUDE": ".*", "EXCLUDE": "$^"}
DYNAMIC = {"CALIB_STEPS": "0"}
PLAIN = {"ROTATION": "none", "PERMUTE": "0", **DYNAMIC}

ROUND_TO_NEAREST = "round to nearest per channel"
BLOCK_SCALES = "block scales only"
PREDECESSOR = "predecessor's recipe in our options"
OURS = "ours, no statistics"
OURS_INFORMED = "ours, LS=0.15"
OURS_SMOOTH = "ours, LS=0.5"
DOCUMENT = "document's default"
DOCUMENT_INFORMED = "document's default, LS=0.15"
DOCUMENT_SMOOTH = "document's default, LS=0.5"


class Recipe(NamedTuple):
    """Settings by variable name less its prefix, and whether recorded inputs choose the transforms."""

    label: str
    settings: Mapping[str, str]
    informed: bool = False

    @property
    def static(self) -> bool:
        """Whether activation scales are pooled over 32 requests, which is the default."""
        return self.settings.get("CALIB_STEPS") != "0"

    def config(self, act_bits: int) -> DuQuantConfig:
        """Read the settings as a server would, for W4 and activations of `act_bits`."""
        given = {**EVERY_LAYER, **self.settings, "ABITS": str(act_bits)}
        config = DuQuantConfig.from_environ({PREFIX + name: text for name, text in given.items()})
        assert config is not None
        return config


def headline_recipes() -> list[Recipe]:
    """The recipes that the project's aims are about."""
    predecessor = {"ROTATION": "svd", "WSCALE": "channel"}
    smooth = {"LS": "0.5"}
    return [
        Recipe(ROUND_TO_NEAREST, {"WSCALE": "channel", **PLAIN}),
        Recipe(PREDECESSOR, predecessor),
        Recipe(PREDECESSOR + ", BLOCK=64", {**predecessor, "BLOCK": "64"}),
        Recipe(BLOCK_SCALES, PLAIN),
        Recipe(OURS, DYNAMIC),
        Recipe(OURS_INFORMED, DYNAMIC, informed=True),
        Recipe(OURS_SMOOTH, DYNAMIC | smooth, informed=True),
        Recipe(DOCUMENT, {}),
        Recipe(DOCUMENT_INFORMED, {}, informed=True),
        Recipe(DOCUMENT_SMOOTH, smooth, informed=True),
        Recipe("ours, no statistics, BLOCK=64", {**DYNAMIC, "BLOCK": "64"}),
        Recipe("ours, LS=0.5, BLOCK=64", {**DYNAMIC, **smooth, "BLOCK": "64"}, informed=True),
    ]


def transform_recipes() -> list[Recipe]:
    """Every ROTATION with and without PERMUTE, dynamic: without statistics, and with them at each LS."""
    recipes = []
    for rotation in Rotation:
        for permute in "01":
            settings = {"ROTATION": rotation.value, "PERMUTE": permute, **DYNAMIC}
            name = f"ROTATION={rotation.value} PERMUTE={permute}"
            recipes.append(Recipe(name, settings))
            recipes += [
                Recipe(f"{name} LS={strength}", settings | {"LS": strength}, informed=True)
                for strength in ("0", "0.15", "0.5")
            ]
    return recipes


def quantized(
    model: nn.Module,
    recipe: Recipe,
    act_bits: int,
    statistics: Mapping[str, InputStatistics],
    requests: Iterable[Tensor],
) -> nn.Module:
    """Return a quantized copy of `model`; where scales are static, it has answered `requests` to fix them."""
    model = copy.deepcopy(model)
    config = recipe.config(act_bits)
    targets = select_targets(model, config)
    wrap_duquant(model, targets, config, statistics if recipe.informed else None)
    if recipe.static:
        for request in requests:
            model(request)
    return model
