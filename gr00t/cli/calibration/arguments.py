"""What to calibrate, by which observations: the flags, and all checks that need no weights."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gr00t.cli.errors import UsageError
from gr00t.cli.serving.scope import DOCUMENT, scoped
from gr00t.files.output_folder import writing
from gr00t.model.checkpoints import find_manifest
from gr00t.model.quantized_layers import DEFAULTS
from gr00t.quantization.checkpoint.manifest import check_packdir
from gr00t.quantization.settings.environment import DuQuantConfig, why_not_enabled

if TYPE_CHECKING:
    from gr00t.cli.calibration.sources import ObservationSource

PROMPTS = (
    "pick up the alphabet soup and place it in the basket",
    "put the bowl on the plate",
    "open the top drawer and put the bowl inside",
    "turn on the stove and put the moka pot on it",
)
# Scenes enough for the rows that weights are rounded by, even where fewer requests fix the static scales.
FEWEST_REQUESTS = 128


@dataclasses.dataclass(frozen=True)
class CalibrateArguments:
    """What to calibrate, by which observations."""

    model_path: str
    """Checkpoint folder or model hub id."""
    observations: Path | None = None
    """File of observations: concatenated msgpack messages, as --save writes them."""
    libero: str | None = None
    """Suite to collect observations in by rollouts: libero_spatial, _object, _goal, _10 or _90."""
    synthetic: int | None = None
    """Number of random observations. For smoke tests: do not evaluate what it calibrates."""
    requests: int | None = None
    """Observations to use (default: CALIB_STEPS, at least 128; with --synthetic its number)."""
    save: Path | None = None
    """Write the observations that are used to this file, for --observations."""
    scope: str = DOCUMENT
    """As for the server: document, or wide."""
    packdir: Path | None = None
    """Folder of the packs, instead of GR00T_DUQUANT_PACKDIR."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's; a policy of
    lerobot has its own)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment, or a policy of lerobot's own)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    denoising_steps: int | None = None
    """Euler steps per action chunk, as the server will take; the checkpoint's own number if not given."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the weights, as in the server: packs are for the weights in this precision."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""
    seed: int = 0
    """Seeds the flow noise of every request, the rollouts and the random observations."""
    prompts: tuple[str, ...] = PROMPTS
    """With --synthetic: instructions, taken in turn."""
    tasks: str = "all"
    """With --libero: tasks of the suite, as all, 3, 0,3 or 0-4."""
    replan_steps: int = 8
    """With --libero: actions executed of each chunk before the policy is asked again."""
    max_steps: int | None = None
    """With --libero: steps after which an episode ends (default: the suite's published limit)."""
    assets: str = "auto"
    """With --libero: auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), one of them, a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """With --libero: library to draw with (default: MUJOCO_GL, else osmesa)."""


class Calibration(NamedTuple):
    """What is to be done, all checks passed that need no weights."""

    config: DuQuantConfig
    packdir: Path
    requests: int
    source: ObservationSource


def check_arguments(arguments: CalibrateArguments, environ: Mapping[str, str]) -> Calibration:
    """Check flags and settings, before anything large is read.

    Raises:
        UsageError, DuQuantConfigError, LiberoError, ArtefactError: they cannot be used.
        OSError: PACKDIR cannot be written.
    """
    from gr00t.cli.calibration.sources import FileSource, LiberoSource, SyntheticSource

    manifest = find_manifest(arguments.model_path)
    if manifest is not None:
        raise UsageError(
            f"{arguments.model_path} is quantized already; calibrate what it was exported from: "
            f"{manifest.checkpoint}"
        )
    environ = scoped(environ, arguments.scope)
    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    if config is None:
        raise UsageError(f"nothing to calibrate, DuQuant is not enabled: {why_not_enabled(environ)}")
    if config.dry_run:
        raise UsageError("GR00T_DUQUANT_DRYRUN=1 asks for a list of layers; unset it to calibrate")
    packdir = arguments.packdir or config.pack_dir
    if packdir is None:
        raise UsageError("nowhere to write: set GR00T_DUQUANT_PACKDIR or give --packdir")
    check_packdir(packdir)
    given = [arguments.observations, arguments.libero, arguments.synthetic]
    if sum(source is not None for source in given) != 1:
        raise UsageError("give one of --libero SUITE, --observations FILE and --synthetic N")
    counts = [count for count in (arguments.requests, arguments.synthetic) if count is not None]
    if min(counts, default=1) < 1:
        raise UsageError("--requests and --synthetic: expected at least 1")
    if len(set(counts)) > 1:
        raise UsageError("--synthetic N uses all N observations; --requests says another number")
    requests = counts[0] if counts else max(config.calibration_steps, FEWEST_REQUESTS)
    if requests < config.calibration_steps:
        raise UsageError(
            f"{requests} requests do not fix static scales: GR00T_DUQUANT_CALIB_STEPS="
            f"{config.calibration_steps} asks for at least {config.calibration_steps}"
        )
    if not arguments.prompts:
        raise UsageError("--prompts: give at least one instruction")
    source: ObservationSource
    if arguments.observations is not None:
        source = FileSource(arguments.observations)
    elif arguments.libero is not None:
        source = LiberoSource(
            arguments.libero,
            requests,
            environ,
            tasks=arguments.tasks,
            seed=arguments.seed,
            max_steps=arguments.max_steps,
            replan_steps=arguments.replan_steps,
            assets=arguments.assets,
            gl=arguments.gl,
        )
    else:
        source = SyntheticSource(requests, arguments.prompts, arguments.seed)
    with writing(packdir, "--packdir"):
        packdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=packdir).close()  # a folder that cannot be written is said now
    if arguments.save is not None:
        arguments.save.parent.mkdir(parents=True, exist_ok=True)
    return Calibration(dataclasses.replace(config, pack_dir=packdir), packdir, requests, source)
