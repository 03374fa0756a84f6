"""Recipes: how a policy is quantized and asked, in a small TOML file that can be named on a command line.

    name = "w4a8"
    description = "one line"
    denoising_steps = 8        # optional: instead of the run's
    calibrate = true           # whether statistics of real inputs are recorded first
    images = "grey"            # optional: a control, the policy is shown grey instead of what cameras see
    [duquant]                  # the settings, by the short names of their variables
    WBITS_DEFAULT = 4

What the settings mean is known elsewhere, to the library that quantizes; here they are text.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CAMERA, GREY = IMAGES = ("camera", "grey")
_KEYS = ("name", "description", "denoising_steps", "calibrate", "images", "duquant")


class RecipeError(LiberoError):
    """A recipe that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Recipe:
    """How a policy is quantized and asked.

    Attributes:
        name: What an arm of it is called.
        description: One line for people.
        denoising_steps: Euler steps per action chunk; None leaves them to the run.
        calibrate: Whether statistics of real inputs are recorded before the policy is quantized.
        settings: The quantization's variables by their short names, as text; empty: not quantized.
        images: What the policy is shown in episodes, one of `IMAGES`. A calibration always sees the cameras'.
    """

    name: str
    description: str = ""
    denoising_steps: int | None = None
    calibrate: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    images: str = CAMERA

    def definition(self) -> dict[str, Any]:
        """What makes results comparable, as plain data."""
        return {
            "denoising_steps": self.denoising_steps,
            "calibrate": self.calibrate,
            "images": self.images,
            "settings": dict(sorted(self.settings.items())),
        }


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: if it cannot be read, or says something else than the keys above.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path}: not TOML: {error}") from None
    for key in values:
        if key not in _KEYS:
            raise RecipeError(f"recipe {path}: unknown key {key!r}; {did_you_mean(key, _KEYS)}")
    settings = values.get("duquant", {})
    expected: dict[str, tuple[Any, type]] = {
        "name": (values.get("name", path.stem), str),
        "description": (values.get("description", ""), str),
        "calibrate": (values.get("calibrate", False), bool),
        "images": (values.get("images", CAMERA), str),
        "duquant": (settings, dict),
    }
    for key, (value, kind) in expected.items():
        if not isinstance(value, kind):
            raise RecipeError(f"recipe {path}: {key}: expected {kind.__name__}, got {value!r}")
    steps = values.get("denoising_steps")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise RecipeError(f"recipe {path}: denoising_steps: expected a positive number, got {steps!r}")
    images = expected["images"][0]
    if images not in IMAGES:
        raise RecipeError(f"recipe {path}: images: unknown {images!r}; {did_you_mean(images, IMAGES)}")
    for key, value in settings.items():
        if not isinstance(value, (str, bool, int, float)):
            raise RecipeError(f"recipe {path}: duquant.{key}: expected text or a number, got {value!r}")
    return Recipe(
        name=expected["name"][0],
        description=expected["description"][0],
        denoising_steps=steps,
        calibrate=expected["calibrate"][0],
        settings={key: _as_text(value) for key, value in settings.items()},
        images=images,
    )


def find_recipes(folder: Path) -> dict[str, Path]:
    """The recipes of a folder, by file name without its ending."""
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _as_text(value: str | bool | int | float) -> str:
    """A setting as one would type it into a variable."""
    return str(int(value)) if isinstance(value, bool) else str(value)
