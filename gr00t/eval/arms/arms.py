"""Arms: what is compared. Each is named on the command line by a short text.

bf16, w4a8, my/own.toml     a recipe: a policy server is started with its settings
environment                 the same, with the settings that are exported
HOST:PORT, tcp://HOST:PORT  a policy server that runs already
zero, replay, expert        controls; expert:0.2 is an expert with noise
NAME=ANY                    any of these under a name of one's own
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gr00t.eval.arms.facts import Kind
from gr00t.eval.arms.recipes import Recipe, find_recipes, load_recipe
from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean

CONTROLS = ("zero", "replay", "expert")
ENVIRONMENT = "environment"
_ADDRESS = re.compile(r"(?:tcp://)?(?P<host>[^:/\s]+):(?P<port>\d{1,5})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ArmError(LiberoError):
    """A text that names no arm; the message says what would."""


@dataclass(frozen=True)
class Arm:
    """What is compared with others.

    Attributes:
        name: Unique in a run; also a file name.
        kind: Which of the following applies.
        recipe: With `recipe`: how the policy is quantized and asked.
        host: With `address`: where the server is.
        port: Its port.
        noise: With `expert`: standard deviation of the noise on its motions.
    """

    name: str
    kind: Kind
    recipe: Recipe | None = None
    host: str = ""
    port: int = 0
    noise: float = 0.0

    def definition(self) -> dict[str, Any]:
        """What a resumed run must agree in, as plain data. Where a server is does not matter: what it is."""
        found: dict[str, Any] = {"kind": self.kind}
        if self.recipe is not None:
            found |= self.recipe.definition()
        if self.kind == "expert":
            found["noise"] = self.noise
        return found


def parse_arms(text: str, folder: Path, environment: Mapping[str, str]) -> list[Arm]:
    """Read a comma-separated list of arms.

    Args:
        text: Such as `bf16,w4a8,mine=my/own.toml`.
        folder: Of the named recipes.
        environment: Settings of the quantization that are exported, by their short names.

    Raises:
        ArmError: naming the part that is no arm, with the nearest one that is.
        RecipeError: from a recipe's file.
    """
    arms = [parse_arm(part.strip(), folder, environment) for part in text.split(",") if part.strip()]
    if not arms:
        raise ArmError(f"--arms {text!r}: expected at least one; {_known(folder)}")
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ArmError(f"--arms {text!r}: two arms named {name!r}; name one yourself: NAME={name}")
    return arms


def parse_arm(text: str, folder: Path, environment: Mapping[str, str]) -> Arm:
    """Read one arm; see `parse_arms`."""
    name, separator, what = text.partition("=")
    if not separator:
        return _named(_parse(text, folder, environment))
    return _named(replace(_parse(what.strip(), folder, environment), name=name.strip()))


def _named(arm: Arm) -> Arm:
    if not _NAME.fullmatch(arm.name):
        raise ArmError(f"arm name {arm.name!r}: expected letters, digits and . _ - only (it names files)")
    return arm


def _parse(what: str, folder: Path, environment: Mapping[str, str]) -> Arm:
    control, _, noise = what.partition(":")
    if control in CONTROLS and (control == "expert" or not noise):
        return _control(control, noise)
    if what == ENVIRONMENT:
        steps = "settings that are exported"
        recipe = Recipe(ENVIRONMENT, steps, calibrate=False, settings=dict(environment))
        return Arm(ENVIRONMENT, "recipe", recipe)
    if what.endswith(".toml"):
        recipe = load_recipe(Path(what).expanduser())
        return Arm(recipe.name, "recipe", recipe)
    recipes = find_recipes(folder)
    if what in recipes:
        recipe = load_recipe(recipes[what])
        return Arm(recipe.name, "recipe", recipe)
    address = _ADDRESS.fullmatch(what)
    if address is None:
        raise ArmError(
            f"unknown arm {what!r}: {did_you_mean(what, [*recipes, *CONTROLS, ENVIRONMENT])}; or "
            "a recipe's .toml, or HOST:PORT of a server"
        )
    port = int(address["port"])
    if not 1 <= port <= 65535:
        raise ArmError(f"arm {what!r}: port {port} is not within 1 to 65535")
    return Arm(f"{address['host']}-{port}", "address", host=address["host"], port=port)


def _control(kind: str, noise: str) -> Arm:
    if kind == "zero":
        return Arm("zero", "zero")
    if kind == "replay":
        return Arm("replay", "replay")
    try:
        amount = float(noise or 0)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1:
        raise ArmError(f"arm 'expert:{noise}': expected noise from 0 to 1, such as expert:0.2")
    return Arm(f"expert-{amount:g}" if amount else "expert", "expert", noise=amount)


def _known(folder: Path) -> str:
    return f"known: {', '.join([*find_recipes(folder), *CONTROLS, ENVIRONMENT])}"
