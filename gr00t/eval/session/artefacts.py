"""A recipe that meets an exported artefact: the artefact is evaluated as what it is, or not at all."""

from __future__ import annotations

from pathlib import Path

from gr00t.eval.arms.arms import ENVIRONMENT, Arm
from gr00t.eval.arms.recipes import RecipeError
from gr00t.eval.session import servers
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import FILE, Manifest, read_manifest
from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError, to_environ


def find_artefact(model: str) -> Manifest | None:
    """The manifest of an exported model, None where `model` is no artefact or nowhere on this machine.

    Raises:
        ArtefactError: it is one that cannot be used.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return read_manifest(folder)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, FILE)
    return read_manifest(Path(found).parent) if isinstance(found, str) else None


def settle_recipe(arm: Arm, model: str) -> tuple[DuQuantConfig | None, Manifest | None]:
    """Return the settings that a recipe's server runs by, and the artefact that it serves, if it does.

    A checkpoint is quantized as the recipe says. An artefact is what it is: the arm `environment` takes it
    so, every other recipe has to agree with it.

    Raises:
        RecipeError: the recipe's settings are wrong, or ask for something that the artefact is not.
    """
    assert arm.recipe is not None
    config = servers.check_recipe(arm)
    try:
        artefact = find_artefact(model)
        if artefact is None:
            return config, None
        found = artefact.config(to_environ(arm.recipe.settings))
    except (ArtefactError, DuQuantConfigError) as error:
        raise RecipeError(f"arm {arm.name}: {model}: {error}") from None
    advice = f"evaluate it as it is: --arms {ENVIRONMENT}, with nothing exported"
    if config is None and arm.recipe.name != ENVIRONMENT:
        raise RecipeError(
            f"arm {arm.name} is not to be quantized, but {model} is a quantized model; {advice}"
        )
    if arm.recipe.calibrate and not artefact.informed:
        raise RecipeError(
            f"arm {arm.name} wants statistics of recorded inputs; {model} was exported without any; {advice}"
        )
    return found, artefact
