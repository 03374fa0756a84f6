"""The flags of a training: this project's, and Isaac-GR00T N1.5's as other names of the same things."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from gr00t.data.lerobot.frames.source_names import FrameSource

Reports = Literal["none", "tensorboard", "wandb", "azure_ml"]
VideoBackend = Literal["decord", "opencv", "torchcodec", "torchvision_av"]
# A flag that has a --no- form and need not be given: `command_line` writes out which of both it was.
Switch = Annotated[bool | None, arg(metavar="{True,False}")]


def also(*names: str) -> Any:
    """Further names of a flag."""
    return arg(aliases=[f"--{name}" for name in names])


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Train GR00T N1.5 on demonstrations in the LeRobot layout."""

    # Whether --batch-size is that of one process; else all processes share it.
    batch_per_process: ClassVar[bool] = False
    # Where in --output the trained checkpoint is to be found.
    published: ClassVar[str] = "checkpoint"

    data: Annotated[tuple[Path, ...], also("dataset-path")] = ()
    """Folders of the demonstrations, one or several of the same robot."""
    checkpoint: Annotated[str | None, also("base-model-path")] = None
    """Checkpoint folder or model hub id to start from."""
    output: Annotated[Path | None, also("output-dir")] = None
    """Folder for the trained checkpoint, the log and the checkpoints on the way."""
    steps: Annotated[int | None, also("max-steps")] = None
    """Optimizer steps."""
    data_config: str = "examples.Libero.custom_data_config:LiberoDataConfig"
    """Keys and transforms: a registered name, or "module:Class" of your own."""
    embodiment_tag: str = "new_embodiment"
    """Whose encoders and decoder are trained."""
    data_weights: tuple[float, ...] = ()
    """How much more often a time step of each data set is seen; as many as data sets, default 1 each."""
    balance_dataset_weights: Switch = None
    """False: the weights are the shares of whole data sets, however long each is."""
    balance_trajectory_weights: Switch = None
    """False: within a data set every episode is seen as often as another, however long."""
    stop_after: int | None = None
    """Write the checkpoint at this step already and stop; the same command goes on from there."""
    resume: Switch = None
    """True: go on from the newest checkpoint-N, which must be there; False: begin, in a folder without one;
    default: go on if there is something to go on from."""
    batch_size: int = 32
    """Samples at once, shared by all processes."""
    gradient_accumulation_steps: int = 1
    """Batches per step: their gradient is that of one batch of so many times the size."""
    learning_rate: float = 1e-4
    """Its peak: it rises over the warm-up and falls along a cosine."""
    warmup: Annotated[float, also("warmup-ratio")] = 0.05
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = 1e-5
    """Of AdamW, on matrices."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Of AdamW."""
    ema_decay: float = 0.0
    """Save weights averaged with this decay; 0: the last ones."""
    draws: int = 1
    """Flow noises and times per sample and step; more cost little where the encoder is large."""
    parts: tuple[str, ...] | None = None
    """What is trained besides the adapter: vision, language, projector, diffusion (default: the last two)."""
    tune_llm: Switch = None
    """Train the language model: one of --parts by another name."""
    tune_visual: Switch = None
    """Train the vision tower."""
    tune_projector: Switch = None
    """Train the encoders and the decoder of states and actions."""
    tune_diffusion_model: Switch = None
    """Train the DiT."""
    lora_rank: int = 0
    """Train matrices of this rank beside the attention of adapter and DiT instead of the weights; 0: no."""
    lora_alpha: float = 16
    """They count this / rank times."""
    lora_dropout: float = 0.1
    """Share of their inputs that is left out in training."""
    lora_full_model: Switch = None
    """True: also beside the attention of the language model and the vision tower."""
    save_adapter: Switch = False
    """Also keep the LoRA alone, in the folder adapter/ of each checkpoint, as peft writes it."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """In which matrices are multiplied; weights stay float32."""
    save_precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights in a checkpoint; what a run goes on from is float32."""
    seed: int = 0
    """Of batches, augmentations, noises and times."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one. Several processes: cuda, a GPU each, or cpu."""
    num_gpus: int | None = None
    """Processes to start, each with a GPU of its own (with --device cpu: with none)."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt, as it will be served: ['TEXT'] or TEXT."""
    save_every: Annotated[int, also("save-steps")] = 500
    """Steps between checkpoints, the folders checkpoint-N."""
    save_total_limit: int = 5
    """How many of them are kept, the newest; 0: all."""
    log_every: Annotated[int, also("logging-steps")] = 20
    """Steps between lines of training.jsonl."""
    report_to: Reports | None = None
    """tensorboard: event files in the folder runs/ of the output; none (default)."""
    cache: Path | None = None
    """Folder for decoded frames (default: frames/ in the output)."""
    frames: FrameSource = "auto"
    """cache: decoded once, to the folder; decode: when needed; auto: the cache if there is room for it."""
    video_backend: VideoBackend = "decord"
    """Which frame a row sees, as with this decoder in Isaac-GR00T: with decord and opencv the nearest to its
    time stamp, with torchcodec and torchvision_av the last one that is not later. PyAV decodes."""
    dataloader_num_workers: int | None = None
    """Without effect: one thread reads the next batch while a step is learned from."""
    dataloader_prefetch_factor: int | None = None
    """Without effect, for the same reason."""
    dry_run: Switch = False
    """Say how much memory and disk the run needs, and end; no weights and no data are read."""

    def check(self) -> None:
        """Refuse flags that make no sense together; a program with further flags has its own.

        Raises:
            UsageError: they do not.
        """


@dataclasses.dataclass(frozen=True)
class FinetuneArguments(TrainArguments):
    """Fine-tune GR00T N1.5 with the flags and defaults of Isaac-GR00T N1.5's gr00t_finetune.py."""

    batch_per_process: ClassVar[bool] = True
    published: ClassVar[str] = "."

    checkpoint: Annotated[str | None, also("base-model-path")] = "nvidia/GR00T-N1.5-3B"
    output: Annotated[Path | None, also("output-dir")] = Path("/tmp/gr00t")
    steps: Annotated[int | None, also("max-steps")] = 10000
    data_config: str = "fourier_gr1_arms_only"
    batch_size: int = 32
    """Samples at once of each process."""
    video_backend: VideoBackend = "torchcodec"
    resume: Switch = False
    """True: go on from the newest checkpoint-N; False: begin, in a folder without one."""
    num_gpus: int | None = 1
    save_every: Annotated[int, also("save-steps")] = 1000
    log_every: Annotated[int, also("logging-steps")] = 10
