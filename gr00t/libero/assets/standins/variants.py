"""Stand-ins for LIBERO-PRO's objects: those of LIBERO in another colour, or half as large again.

A recoloured object keeps light and dark where they were. Which colour each has was read off LIBERO-PRO's
own textures, a mean over each: `black_bowl` is white there, and the rack is of dark wood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gr00t.libero.assets.standins.parts import Body, Box, Look, Panel, Rgb, Standin, Turned
from gr00t.libero.tasks.perturbations import BIGGER, VARIANTS

RED, GREEN, BLUE, YELLOW = (0.80, 0.12, 0.10), (0.20, 0.62, 0.16), (0.0, 0.0, 1.0), (0.98, 0.82, 0.20)
WHITE, BROWN = (0.95, 0.95, 0.95), (0.42, 0.20, 0.07)
_COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW, "white": WHITE, "brown": BROWN}


def variants(standins: Sequence[Standin]) -> tuple[Standin, ...]:
    """Stand-ins for all of `VARIANTS`, made from those of LIBERO's objects."""
    by_name = {standin.name: standin for standin in standins}
    made = []
    for name, model in VARIANTS.items():
        kind = name.split("_")[0]
        if kind == "bigger":
            made.append(_enlarged(dataclasses.replace(by_name[model], name=name)))
        else:
            rgb = WHITE if name == "black_bowl" else _COLOURS[kind]
            made.append(
                dataclasses.replace(by_name[model], name=name, body=_recoloured(by_name[model].body, rgb))
            )
    return tuple(made)


def _recoloured(body: Body, rgb: Rgb) -> Body:
    return dataclasses.replace(
        body,
        looks=tuple(_in_colour(look, rgb) for look in body.looks),
        bodies=tuple(_recoloured(part, rgb) for part in body.bodies),
    )


def _in_colour(look: Look, rgb: Rgb) -> Look:
    if isinstance(look, Panel):
        raise TypeError(f"{look}: a material of a scene has no colour of its own")
    if isinstance(look, Turned):
        strips = tuple((radius, height, _shade(was, rgb)) for radius, height, was in look.strips)
        return dataclasses.replace(look, strips=strips)
    return dataclasses.replace(look, rgb=_shade(look.rgb, rgb))


def _shade(was: Rgb, rgb: Rgb) -> Rgb:
    """`rgb`, of which what was dark keeps three fifths."""
    light = 0.6 + 0.4 * max(was)
    red, green, blue = (round(part * light, 3) for part in rgb)
    return red, green, blue


def _enlarged(standin: Standin) -> Standin:
    """All lengths `BIGGER` times as long, rounded as LIBERO-PRO's are; of an object of one body."""
    body = standin.body
    return dataclasses.replace(
        standin,
        bottom_site=_longer(standin.bottom_site),
        top_site=_longer(standin.top_site),
        radius_site=_longer(standin.radius_site),
        body=dataclasses.replace(
            body,
            boxes=tuple(_larger_box(box) for box in body.boxes),
            looks=tuple(_larger_look(look) for look in body.looks),
        ),
    )


def _longer(length: float) -> float:
    """To a hundredth of a millimetre, a half rounded as the product in binary falls: as LIBERO-PRO's."""
    return round(BIGGER * length, 5)


def _larger_box(box: Box) -> Box:
    x, y, z, *turn, half_x, half_y, half_z = box
    w, i, j, k = turn
    x, y, z, half_x, half_y, half_z = map(_longer, (x, y, z, half_x, half_y, half_z))
    return x, y, z, w, i, j, k, half_x, half_y, half_z


def _larger_look(look: Look) -> Look:
    if not isinstance(look, Turned):
        raise TypeError(f"{look}: only turned surfaces are enlarged")
    (radius, height), strips = look.start, look.strips
    return dataclasses.replace(
        look,
        start=(BIGGER * radius, BIGGER * height),
        strips=tuple((BIGGER * radius, BIGGER * height, rgb) for radius, height, rgb in strips),
    )
