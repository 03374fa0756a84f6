"""What to allocate, by which observations: the flags, and all checks that need no weights."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tyro

from gr00t.cli.calibration.arguments import PROMPTS
from gr00t.cli.checks.needed import check_installed
from gr00t.cli.errors import UsageError
from gr00t.eval.allocation.budget import Budget, parse_budget
from gr00t.files.output_folder import writing
from gr00t.files.shipped import RECIPES
from gr00t.model.checkpoints import find_manifest
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization.calibration.record import FILE, read_record
from gr00t.quantization.settings.environment import DuQuantConfig, settings_in, to_environ

if TYPE_CHECKING:
    from gr00t.eval.arms.recipes import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class AllocateArguments:
    """What to allocate, by which observations."""

    checkpoint: tyro.conf.Positional[str]
    """Checkpoint in floating point: a folder or model hub id."""
    budget: str
    """What the weights of the selected layers may take together, their scales counted: bits per weight, as
    4.25, or bytes with their unit, as 870KB."""
    packdir: Path | None = None
    """Folder that gr00t-calibrate has filled for this checkpoint, instead of GR00T_DUQUANT_PACKDIR."""
    recipe: str = "recommended"
    """All settings but the bits of weights: a recipe of examples/Libero/recipes, a .toml of your own, or
    environment (the GR00T_DUQUANT_* that are exported)."""
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    """Bits that a layer may get. Fewer of them are measured sooner."""
    observations: Path | None = None
    """File of observations to measure by: as gr00t-calibrate --save writes it."""
    libero: str | None = None
    """Suite to collect observations in by rollouts: libero_spatial, _object, _goal, _10 or _90."""
    synthetic: int | None = None
    """Number of random observations. For smoke tests."""
    requests: int = 48
    """Observations to measure by; of a file those that are spread evenly over it."""
    output: Path = Path("allocation")
    """Folder for recipe, tables, drawing, and what was measured: the same command goes on there."""
    name: str | None = None
    """Of the recipe and its files (default: allocated-BUDGET)."""
    batch: int = 16
    """Observations that are answered at a time."""
    executed: int = 8
    """Actions of a chunk that the robot executes before it asks again."""
    gripper: tuple[str, ...] = ()
    """Action keys that are grippers, and no motion (default: those with "gripper" in their name)."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: the calibration's)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: the calibration's)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    denoising_steps: int | None = None
    """Euler steps per action chunk (default: the recipe's, else the calibration's)."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "float32"
    """Precision of what is not quantized. In bfloat16 most layers' errors are lost in its own rounding."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""
    seed: int = 0
    """Seeds the flow noise, the same for every measurement, the rollouts and the random observations."""
    prompts: tuple[str, ...] = PROMPTS
    """With --synthetic: instructions, taken in turn."""
    tasks: str = "all"
    """With --libero: tasks of the suite, as all, 3, 0,3 or 0-4."""
    max_steps: int | None = None
    """With --libero: steps after which an episode ends (default: the suite's published limit)."""
    assets: str = "auto"
    """With --libero: auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), one of them, a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """With --libero: library to draw with (default: MUJOCO_GL, else osmesa)."""


class AllocationTask(NamedTuple):
    """What is to be done, all checks passed that need no weights.

    Attributes:
        arguments: the flags, with what the calibration says where they say nothing.
        budget: what the weights may take.
        recipe: whose settings are taken over.
        config: these settings.
        packdir: where the statistics of inputs are.
        calibrated_dtype: of the weights that they belong to, as torch calls it.
        name: of the recipe that is written.
    """

    arguments: AllocateArguments
    budget: Budget
    recipe: Recipe
    config: DuQuantConfig
    packdir: Path
    calibrated_dtype: str
    name: str


def check_arguments(arguments: AllocateArguments, environ: Mapping[str, str]) -> AllocationTask:
    """Check flags and settings, before anything large is read.

    Raises:
        UsageError, AllocationError, RecipeError, ArmError, DuQuantConfigError: they cannot be used.
        UnfinishedCalibrationError: the packs are not complete.
        OSError: --output cannot be written.
    """
    budget = parse_budget(arguments.budget)
    check_installed(("scipy", "matplotlib"), "libero")
    _check_numbers(arguments)
    manifest = find_manifest(arguments.checkpoint)
    if manifest is not None:
        raise UsageError(
            f"{arguments.checkpoint} is quantized already; allocate bits for what it was exported from: "
            f"{manifest.checkpoint}"
        )
    recipe, config = _settings(arguments, environ)
    packdir = arguments.packdir or config.pack_dir or _exported_packdir(environ)
    record = _calibration(packdir)
    assert packdir is not None
    name = arguments.name or f"allocated-{budget.text.replace(' ', '')}"
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: expected letters, digits and . _ - only (it names files)")
    with writing(arguments.output, "--output"):
        arguments.output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=arguments.output).close()  # a folder that cannot be written is said now
    filled = dataclasses.replace(
        arguments,
        data_config=arguments.data_config or record.get("data_config"),
        embodiment_tag=arguments.embodiment_tag or record.get("embodiment_tag"),
        denoising_steps=arguments.denoising_steps or recipe.denoising_steps or record.get("denoising_steps"),
    )
    return AllocationTask(filled, budget, recipe, config, packdir, str(record.get("dtype", "bfloat16")), name)


def _check_numbers(arguments: AllocateArguments) -> None:
    given = [arguments.observations, arguments.libero, arguments.synthetic]
    if sum(source is not None for source in given) != 1:
        raise UsageError("give one of --observations FILE, --libero SUITE and --synthetic N to measure by")
    if arguments.observations is not None and not arguments.observations.is_file():
        raise UsageError(f"--observations {arguments.observations}: no such file")
    for flag, value in (
        ("--requests", arguments.requests),
        ("--synthetic", arguments.synthetic),
        ("--batch", arguments.batch),
        ("--executed", arguments.executed),
        ("--denoising-steps", arguments.denoising_steps),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value}: expected at least 1")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: expected at least 0")
    bits = arguments.bits
    if not bits or len(set(bits)) < len(bits) or not all(2 <= number <= 8 for number in bits):
        raise UsageError(f"--bits {' '.join(map(str, bits))}: expected different numbers from 2 to 8")


def _settings(arguments: AllocateArguments, environ: Mapping[str, str]) -> tuple[Recipe, DuQuantConfig]:
    from gr00t.eval.arms.arms import parse_arm

    arm = parse_arm(arguments.recipe, RECIPES, settings_in(environ))
    config = None
    if arm.recipe is not None:
        # Whatever it says of weights, bits of theirs are allocated.
        config = DuQuantConfig.from_environ(to_environ({**arm.recipe.settings, "ENABLE": "1"}), DEFAULTS)
    if arm.recipe is None or config is None:
        raise UsageError(f"--recipe {arguments.recipe}: expected settings of a quantization")
    if config.dry_run:
        raise UsageError("GR00T_DUQUANT_DRYRUN=1 asks for a list of layers; unset it to allocate bits")
    if config.is_static:
        raise UsageError(
            f"--recipe {arguments.recipe}: its static activation scales are fixed by requests of the whole "
            "policy; errors of single layers are measured with a scale per token: give a recipe with "
            "CALIB_STEPS=0, as recommended"
        )
    return arm.recipe, config


def _exported_packdir(environ: Mapping[str, str]) -> Path | None:
    exported = settings_in(environ).get("PACKDIR", "").strip()
    return Path(exported) if exported else None


def _calibration(packdir: Path | None) -> dict[str, Any]:
    """What calibration.json beside the packs says."""
    advice = "gr00t-calibrate fills one"
    if packdir is None:
        raise UsageError(f"no recorded inputs to round by: give --packdir FOLDER; {advice}")
    if not packdir.is_dir():
        raise UsageError(f"--packdir {packdir}: no such folder; {advice}")
    record = read_record(packdir)
    if record is None:
        raise UsageError(f"--packdir {packdir}: no {FILE} in there, so it was not calibrated; {advice}")
    return record
