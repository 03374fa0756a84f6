"""The flags of the command that compares predictions with records, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from gr00t.cli.checks.drawing import check_drawing
from gr00t.cli.checks.needed import check_installed
from gr00t.cli.errors import UsageError
from gr00t.cli.serving.scope import DOCUMENT

_PLOT = "open_loop.png"


@dataclasses.dataclass(frozen=True)
class OpenLoopArguments:
    """Compare a policy's actions with recorded ones."""

    dataset_path: Path
    """Folder of the recorded episodes, in LeRobot's layout."""
    model_path: str | None = None
    """Checkpoint folder or model hub id to load; without it, a server is asked."""
    host: str = "localhost"
    """Of the server."""
    port: int = 5555
    """Of the server."""
    api_token: str | None = None
    """Of the server, if it has one."""
    data_config: str | None = None
    """With --model-path: keys and transforms, a registered name or "module:Class"; default: LIBERO's."""
    embodiment_tag: str = "new_embodiment"
    """With --model-path: whose statistics and projections are used."""
    denoising_steps: int | None = None
    """With --model-path: Euler steps per action chunk; the checkpoint's own number if not given."""
    device: str | None = None
    """With --model-path: cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """With --model-path: precision of what is not quantized."""
    base: str | None = None
    """With --model-path: the checkpoint that an adapter was trained on."""
    tokenizer: str | None = None
    """With --model-path: folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """With --model-path: the instruction in the prompt, ['TEXT'] or TEXT."""
    scope: str = DOCUMENT
    """With --model-path: which layers are quantized, document or wide, as for the server."""
    trajs: int = 1
    """How many episodes."""
    start_traj: int = 0
    """The first one's number."""
    steps: int = 150
    """Time steps of each, at most its own."""
    action_horizon: int | None = None
    """Steps from one answer to the next; default: as many as the policy predicts."""
    modality_keys: tuple[str, ...] = ()
    """Actions to compare, without "action."; default: all of the policy's."""
    seed: int | None = 0
    """Of the flow noise; None: whatever the policy draws."""
    plot: bool = False
    """Draw recorded and predicted actions."""
    plot_state: bool = False
    """With the states of the same keys."""
    save_plot_path: str | None = None
    """File for the drawing, .png, .svg or .pdf (default with --plot: open_loop.png)."""
    video_backend: Literal["torchcodec", "decord", "torchvision_av"] = "torchcodec"
    """Taken for the sake of N1.5's commands; PyAV decodes."""


def plot_path(arguments: OpenLoopArguments) -> str | None:
    """Where to draw, if at all."""
    wanted = arguments.plot or arguments.plot_state
    return arguments.save_plot_path or (_PLOT if wanted else None)


def check_first(arguments: OpenLoopArguments) -> None:
    """Find before minutes are spent what would be found at the end.

    Raises:
        UsageError: flags that make no sense, a package is missing, or nothing can be drawn there.
    """
    if arguments.trajs < 1 or arguments.steps < 1:
        raise UsageError("--trajs and --steps: expected at least 1")
    if arguments.seed is not None and arguments.seed < 0:
        raise UsageError(f"--seed: expected at least 0, got {arguments.seed}")
    path = plot_path(arguments)
    check_installed(("av", "pyarrow", *(("matplotlib",) if path is not None else ())), "train")
    if path is None:
        return
    check_drawing(path, "--save-plot-path")
