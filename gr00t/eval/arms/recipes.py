"""Recipes: how a policy is quantized and asked, in a small TOML file that can be named on a command line.

    name = "w4a8"
    description = "one line"
    denoising_steps = 8        # optional: instead of the run's
    calibrate = true           # whether statistics of real inputs are recorded first
    images = "grey"            # optional: a control, the policy is shown grey instead of what cameras see
    dtype = "float32"          # optional: precision of what is not quantized, instead of the run's
    [duquant]                  # the settings, by the short names of their variables
    WBITS_DEFAULT = 4

What the settings mean is known elsewhere, to the library that quantizes; here they are text.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean
from gr00t.validation import first_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CAMERA: Literal["camera"] = "camera"
GREY: Literal["grey"] = "grey"
_KEYS = ("name", "description", "denoising_steps", "calibrate", "images", "dtype", "duquant")


class RecipeError(LiberoError):
    """A recipe that cannot be used; the message names the file and the key."""


def _as_text(value: object) -> str:
    """A setting as one would type it into a variable."""
    if not isinstance(value, (str, int, float)):
        raise ValueError("expected text or a number")
    return str(int(value)) if isinstance(value, bool) else str(value)


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", validate_by_name=True))
class Recipe:
    """How a policy is quantized and asked.

    Attributes:
        name: What an arm of it is called.
        description: One line for people.
        denoising_steps: Euler steps per action chunk; None leaves them to the run.
        calibrate: Whether statistics of real inputs are recorded before the policy is quantized.
        settings: The quantization's variables by their short names, as text; empty: not quantized.
        images: What the policy is shown in episodes, `CAMERA` or `GREY`; a calibration sees the cameras'.
        dtype: Precision of what is not quantized; None leaves it to the run.
    """

    name: str
    description: str = ""
    denoising_steps: PositiveInt | None = None
    calibrate: bool = False
    settings: Annotated[
        Mapping[str, Annotated[str, BeforeValidator(_as_text)]], Field(validation_alias="duquant")
    ] = field(default_factory=dict)
    images: Literal["camera", "grey"] = CAMERA
    dtype: Literal["bfloat16", "float32"] | None = None

    def definition(self) -> dict[str, Any]:
        """What makes results comparable, as plain data."""
        return {
            "denoising_steps": self.denoising_steps,
            "calibrate": self.calibrate,
            "images": self.images,
            # A run of a time that had no such key goes on.
            **({} if self.dtype is None else {"dtype": self.dtype}),
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
    try:
        return Recipe(**{"name": path.stem, **values})
    except ValidationError as error:
        raise RecipeError(f"recipe {path}: {first_of(error)}") from None


def find_recipes(folder: Path) -> dict[str, Path]:
    """The recipes of a folder, by file name without its ending."""
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
