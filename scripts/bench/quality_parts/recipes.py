"""The rows of the table: settings as a server would be started with, and models quantized by them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from gr00t.quantization import IntFormat, LinearScheme, Rotation, Rounding, WeightScale, quantize_
from gr00t.quantization.numerics.statistics import InputStatistics

DOCUMENTED = LinearScheme(rounding=Rounding.NEAREST)
DYNAMIC = replace(DOCUMENTED, calibration_steps=0)
PLAIN = replace(DYNAMIC, rotation=Rotation.NONE, permute=False)

ROUND_TO_NEAREST = "round to nearest per channel"
BLOCK_SCALES = "block scales only"
PREDECESSOR = "predecessor's recipe in our options"
OURS = "ours, no statistics"
OURS_INFORMED = "ours, LS=0.15"
OURS_SMOOTH = "ours, LS=0.5"
DOCUMENT = "document's default"
DOCUMENT_INFORMED = "document's default, LS=0.15"
DOCUMENT_SMOOTH = "document's default, LS=0.5"
FEEDBACK = ", feedback"


class Recipe(NamedTuple):
    """A scheme, and whether recorded inputs choose the transforms."""

    label: str
    scheme: LinearScheme
    informed: bool = False

    def with_bits(self, act_bits: int) -> LinearScheme:
        """The scheme for activations of `act_bits`."""
        return replace(self.scheme, activation=IntFormat(act_bits))


def headline_recipes() -> list[Recipe]:
    """The recipes that the project's aims are about."""
    predecessor = replace(DOCUMENTED, rotation=Rotation.SVD, weight_scale=WeightScale.CHANNEL)
    smooth = replace(DYNAMIC, smoothing=0.5)
    return [
        Recipe(ROUND_TO_NEAREST, replace(PLAIN, weight_scale=WeightScale.CHANNEL)),
        Recipe(PREDECESSOR, predecessor),
        Recipe(PREDECESSOR + ", BLOCK=64", replace(predecessor, block=64)),
        Recipe(BLOCK_SCALES, PLAIN),
        Recipe(OURS, DYNAMIC),
        Recipe(OURS_INFORMED, DYNAMIC, informed=True),
        Recipe(OURS_SMOOTH, smooth, informed=True),
        Recipe(DOCUMENT, DOCUMENTED),
        Recipe(DOCUMENT_INFORMED, DOCUMENTED, informed=True),
        Recipe(DOCUMENT_SMOOTH, replace(DOCUMENTED, smoothing=0.5), informed=True),
        Recipe("ours, no statistics, BLOCK=64", replace(DYNAMIC, block=64)),
        Recipe("ours, LS=0.5, BLOCK=64", replace(smooth, block=64), informed=True),
    ]


def rounding_recipes() -> list[Recipe]:
    """Rounding to nearest and with error feedback, dynamic and static, at 4 bits and fewer."""
    smooth = replace(DYNAMIC, smoothing=0.5)
    pairs = [
        Recipe(OURS_SMOOTH, smooth, informed=True),
        Recipe(OURS_SMOOTH + ", BLOCK=64", replace(smooth, block=64), informed=True),
        Recipe(DOCUMENT_INFORMED, DOCUMENTED, informed=True),
        *(
            Recipe(f"{OURS_SMOOTH}, W{bits}", replace(smooth, weight=IntFormat(bits)), informed=True)
            for bits in (3, 2)
        ),
    ]
    return [one for pair in pairs for one in (pair, with_feedback(pair))]


def with_feedback(recipe: Recipe) -> Recipe:
    """The same, rounded with error feedback."""
    scheme = replace(recipe.scheme, rounding=Rounding.FEEDBACK)
    return recipe._replace(label=recipe.label + FEEDBACK, scheme=scheme)


def transform_recipes() -> list[Recipe]:
    """Every ROTATION with and without PERMUTE, dynamic: without statistics, and with them at each LS."""
    recipes = []
    for rotation in Rotation:
        for permute in (False, True):
            scheme = replace(DYNAMIC, rotation=rotation, permute=permute)
            name = f"ROTATION={rotation.value} PERMUTE={int(permute)}"
            recipes.append(Recipe(name, scheme))
            recipes += [
                Recipe(f"{name} LS={strength:g}", replace(scheme, smoothing=strength), informed=True)
                for strength in (0, 0.15, 0.5)
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
    scheme = recipe.with_bits(act_bits)
    quantize_(model, scheme, statistics=statistics if recipe.informed else None)
    if scheme.calibration_steps:
        for request in requests:
            model(request)
    return model
