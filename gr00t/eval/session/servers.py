"""How a recipe becomes a running policy server, or calibrated packs: commands and their environments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gr00t.eval.arms.arms import Arm
from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.published import suite_data_config, suite_model
from gr00t.eval.arms.recipes import Recipe, RecipeError
from gr00t.eval.arms.server_process import PORT
from gr00t.eval.session.options import EvaluationOptions
from gr00t.libero.tasks.suites import LiberoError, Suite
from gr00t.quantization.settings.environment import DuQuantConfig, DuQuantConfigError, to_environ
from gr00t.serving.identity import folder_hash

ROOT = Path(__file__).resolve().parents[3]


def check_recipe(arm: Arm) -> DuQuantConfig | None:
    """Parse an arm's settings; None where they do not quantize.

    Raises:
        RecipeError: naming the arm, for settings that are wrong or make no sense here.
    """
    assert arm.recipe is not None
    try:
        config = DuQuantConfig.from_environ(to_environ(arm.recipe.settings))
    except DuQuantConfigError as error:
        raise RecipeError(f"arm {arm.name}: {error}") from None
    if config is None and arm.recipe.calibrate:
        raise RecipeError(f"arm {arm.name}: calibrate = true, but its settings quantize nothing")
    if config is not None and config.dry_run:
        raise RecipeError(f"arm {arm.name}: GR00T_DUQUANT_DRYRUN lists layers; there is nothing to evaluate")
    return config


def server_environ(environ: Mapping[str, str], recipe: Recipe, packdir: Path | None) -> dict[str, str]:
    """`environ` with the settings of the recipe and none of the caller's own."""
    settings = {**recipe.settings, **({} if packdir is None else {"PACKDIR": str(packdir)})}
    # Threads that spin while they wait take the simulators' time.
    return {"OMP_WAIT_POLICY": "PASSIVE", **to_environ(settings, environ)}


def model_flags(options: EvaluationOptions, suite: Suite, recipe: Recipe) -> list[str]:
    """Flags that scripts/inference_service.py and scripts/calibrate.py share."""
    flags = ["--model-path", options.model or suite_model(suite.name)]
    flags += ["--base", options.base] if options.base else []
    flags += ["--data-config", options.data_config or suite_data_config(suite.name)]
    flags += ["--denoising-steps", str(recipe.denoising_steps or options.denoising_steps)]
    flags += ["--dtype", recipe.dtype or options.dtype, "--prompt-style", options.prompt_style]
    flags += ["--device", options.device] if options.device else []
    flags += ["--tokenizer", options.tokenizer] if options.tokenizer else []
    return flags


def conditions(options: EvaluationOptions, suite: Suite) -> dict[str, object]:
    """What all recipes of a run share and a continued run must agree in, as plain data."""
    return {
        "model": options.model or suite_model(suite.name),
        **({"base": options.base} if options.base else {}),
        "data_config": options.data_config or suite_data_config(suite.name),
        "denoising_steps": options.denoising_steps,
        "dtype": options.dtype,
        "prompt_style": options.prompt_style,
        "tokenizer": options.tokenizer,
        "deterministic": options.deterministic,
    }


def server_program(options: EvaluationOptions, suite: Suite, recipe: Recipe) -> list[str]:
    """The program that serves on this machine, for `ServerProcess`."""
    command = ["-m", "gr00t.cli.serve", "--server"]
    command += [*model_flags(options, suite, recipe), "--host", "127.0.0.1", "--port", PORT]
    return command + (["--max-batch", "1"] if options.deterministic else [])


def calibration_program(
    options: EvaluationOptions, suite: Suite, recipe: Recipe, packdir: Path, gl: str
) -> list[str]:
    """The program that records the inputs of the policy's layers in rollouts, and writes packs by them.

    They are rollouts without perturbations: how a policy fares under these is to be seen of one that was
    quantized without.
    """
    command = ["-m", "gr00t.cli.calibrate"]
    command += [*model_flags(options, suite, recipe), "--libero", suite.base, "--packdir", str(packdir)]
    command += ["--seed", str(options.seed), "--replan-steps", str(options.replan_steps)]
    command += ["--max-steps", str(options.max_steps)] if options.max_steps is not None else []
    return [*command, "--assets", options.assets, "--gl", gl]


def checkpoint_folder(model: str) -> Path | None:
    """Where a checkpoint is on this machine; None where it is nowhere yet.

    Raises:
        LiberoError: a folder that is no checkpoint.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, "config.json")
        return Path(found).parent if isinstance(found, str) else None
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.json")):
        raise LiberoError(f"--model {model}: no checkpoint in this folder")
    return folder


def checkpoint_facts(model: str, described: ServerDescription) -> dict[str, str | None]:
    """Where a checkpoint is and what its files hash to, by the server that has it loaded if that tells."""
    folder = checkpoint_folder(model)
    told = (described.info.get("identity") or {}).get("model")
    found = told if told is not None or folder is None else folder_hash(folder)
    return {"model": model, "folder": None if folder is None else str(folder), "sha256": found}
