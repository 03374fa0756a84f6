"""What to compare, by which observations: the flags, and the checks that need neither weights nor data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from gr00t.cli.checks.drawing import check_drawing
from gr00t.cli.checks.needed import check_installed
from gr00t.cli.errors import UsageError
from gr00t.eval.drift.executed import EXECUTED

# Rows of the policy as it is may have these names.
PRECISIONS = ("float32", "bfloat16")
_EULER_STEPS = 8
# Without arms nothing is judged, calibrated or left out.
_OF_ARMS = ("gripper", "judged", "requests", "calibration", "reference")


@dataclasses.dataclass(frozen=True)
class DriftArguments:
    """How far arms are from the policy as it is."""

    model: str | None = None
    """Checkpoint in floating point: a folder or model hub id (default with --libero: the published one)."""
    arms: str = ""
    """What to compare with it, comma-separated: recipes of examples/Libero/recipes (w4a8, recommended, mixed)
    or paths of your own (.toml), environment (the GR00T_DUQUANT_* that are exported), or HOST:PORT of a
    running server; NAME=ANY names one. With --data and without arms: the actions that were recorded."""
    observations: Path | None = None
    """File to judge by: as gr00t-calibrate --save writes it. Of its episodes the last ones judge, the others
    calibrate, unless --calibration is given."""
    per_episode: int | None = None
    """For files that do not say it themselves: so many observations in a row are of one episode."""
    calibration: Path | None = None
    """File to calibrate arms by, instead of a part of what is given to judge by."""
    data: Path | None = None
    """Data set to judge by, in LeRobot's layout: episodes that are held out; the others calibrate."""
    episodes: str = ""
    """With --data: those that are held out, such as 40-49 or 3,7 (default: the last ten, at most half)."""
    libero: str | None = None
    """LIBERO suite to judge by: rollouts of the policy as it is, on initial states that calibrations do not
    use."""
    placement: Literal["recorded", "wide"] = "wide"
    """With --libero: where the objects stand at first in the rollouts that judge."""
    tasks: str = "all"
    """With --libero: tasks of the suite, as all, 3, 0,3 or 0-4."""
    max_steps: int | None = None
    """With --libero: steps after which an episode ends (default: the suite's published limit)."""
    assets: str = "auto"
    """With --libero: auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), one of them, a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """With --libero: library to draw with (default: MUJOCO_GL, else osmesa)."""
    judged: int = 48
    """Observations to judge by, taken from data, a suite, or a file that calibrates as well."""
    requests: int | None = None
    """Observations to calibrate by (default: as gr00t-calibrate, 128; of a file that judges as well, what is
    left)."""
    executed: int | None = None
    """Actions of a chunk that the robot executes before it asks again (default: 8; without arms: all)."""
    gripper: tuple[str, ...] = ()
    """Action keys that are grippers, and no motion (default: those with "gripper" in their name)."""
    reference: Literal["float32", "bfloat16"] = "float32"
    """Precision of the policy that the others are compared with."""
    seed: int = 0
    """Seeds the flow noise, the same for every arm, and the rollouts."""
    plot: Path = Path("drift.png")
    """File for the drawing, .png, .svg or .pdf."""
    steps: int = 150
    """With --data and without arms: time steps of each episode, at most its own."""

    host: str = "localhost"
    """With --port: where a policy server runs."""
    port: int | None = None
    """Of a running server, which is an arm, too; without --model: the one whose actions are compared with
    recorded ones."""
    api_token: str | None = None
    """Of that server and those among the arms, if they have one."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's; a policy of
    lerobot has its own)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment, or a policy of lerobot's own)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    denoising_steps: int | None = None
    """Euler steps per action chunk, where a recipe does not say (default: 8; without arms: the checkpoint's
    own)."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the arms: of what is not quantized."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""

    @property
    def is_open_loop(self) -> bool:
        """Whether predicted actions are compared with recorded ones, as Isaac-GR00T users know it."""
        return self.data is not None and not self.arms and (self.port is None or self.model is None)

    @property
    def steps_executed(self) -> int:
        """`executed`, where there are arms."""
        return EXECUTED if self.executed is None else self.executed

    @property
    def euler_steps(self) -> int:
        """`denoising_steps`, where there are arms."""
        return _EULER_STEPS if self.denoising_steps is None else self.denoising_steps

    @property
    def arm_texts(self) -> str:
        """All arms, the server among them."""
        server = [f"{self.host}:{self.port}"] if self.port is not None else []
        return ",".join([*([self.arms] if self.arms else []), *server])


def check_first(arguments: DriftArguments) -> None:
    """Find before minutes are spent what would be found at the end.

    Raises:
        UsageError: flags that make no sense, or not together; a package is missing; nothing can be drawn.
    """
    given = [arguments.observations, arguments.data, arguments.libero]
    if sum(source is not None for source in given) != 1:
        raise UsageError("give one of --observations FILE, --data FOLDER and --libero SUITE to judge by")
    for flag, value in (
        ("--judged", arguments.judged),
        ("--requests", arguments.requests),
        ("--per-episode", arguments.per_episode),
        ("--executed", arguments.executed),
        ("--denoising-steps", arguments.denoising_steps),
        ("--steps", arguments.steps),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value}: expected at least 1")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: expected at least 0")
    if arguments.per_episode is not None and arguments.observations is None:
        raise UsageError("--per-episode goes with --observations alone")
    if arguments.episodes and arguments.data is None:
        raise UsageError("--episodes goes with --data alone")
    if not arguments.arm_texts and not arguments.is_open_loop:
        raise UsageError("--arms: name what to compare, such as --arms w4a8,recommended")
    if arguments.model is None and arguments.libero is None and not arguments.is_open_loop:
        raise UsageError("--model: name the checkpoint, in floating point, that the arms are compared with")
    if arguments.model is None and arguments.is_open_loop and arguments.port is None:
        raise UsageError(
            "--data without --arms compares predicted with recorded actions: of which --model, or --port?"
        )
    if arguments.is_open_loop:
        defaults = DriftArguments()
        for name in _OF_ARMS:
            if getattr(arguments, name) != getattr(defaults, name):
                raise UsageError(f"--{name} goes with --arms: without them nothing is judged or calibrated")
    else:
        check_installed(("scipy", "matplotlib"), "libero")
        check_drawing(arguments.plot, "--plot")
