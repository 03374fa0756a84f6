"""Writing the checkpoints of a run, and finding the one to go on from."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError

from gr00t.data.schema import DatasetMetadata
from gr00t.files.output_folder import writing
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.tokenizer import TOKENIZER_FILES
from gr00t.training.lora import save_adapter
from gr00t.training.run_checkpoints import checkpoints_of, keep_newest, new_checkpoint, publish
from gr00t.training.state import STATE_FILE, StateError
from gr00t.training.trainer import Trainer

logger = logging.getLogger("gr00t.train")

ADAPTER = "adapter"


@dataclasses.dataclass(frozen=True)
class CheckpointWriter:
    """Writes the checkpoints of a run.

    Attributes:
        output: folder of the run.
        start: folder of the checkpoint that it began from.
        metadata: of the data.
        precision: of the weights in a checkpoint.
        kept: how many are kept; 0: all.
        with_adapter: whether the LoRA is kept by itself, too.
        published: where in the output the last one is to be found by another name.
    """

    output: Path
    start: Path
    metadata: DatasetMetadata
    precision: torch.dtype
    kept: int
    with_adapter: bool
    published: str

    def save(self, trainer: Trainer) -> None:
        """Write `checkpoint-N` of a trainer's step N, and remove what are too many.

        Raises:
            OutputError: there is no room, or the system refuses it otherwise.
        """
        with writing(self.output, "--output"):
            try:
                with new_checkpoint(self.output, trainer.step) as folder:
                    self._write(trainer, folder)
            except SafetensorError as error:
                full = "os error 28" in str(error)
                raise OSError(errno.ENOSPC if full else errno.EIO, _reason(error)) from error
            keep_newest(self.output, self.kept)

    def publish(self) -> Path:
        """Show the newest one where people look for the result; return its folder."""
        target = (self.output / self.published).resolve()
        with writing(self.output, "--output"):
            publish(checkpoints_of(self.output)[0][1], target)
        return self.output / self.published

    def _write(self, trainer: Trainer, folder: Path) -> None:
        trainer.save(folder)
        (folder / "experiment_cfg").mkdir()
        described = {self.metadata.embodiment_tag.value: self.metadata.model_dump(mode="json")}
        text = json.dumps(described, indent=2) + "\n"
        (folder / "experiment_cfg" / "metadata.json").write_text(text, encoding="utf-8")
        for name in TOKENIZER_FILES:
            if (self.start / name).is_file():
                shutil.copyfile(self.start / name, folder / name)
        if self.with_adapter:
            assert trainer.plan.lora is not None, "only LoRA has an adapter"
            save_adapter(trainer.trained(), trainer.plan.lora, folder / ADAPTER, str(self.start.absolute()))
        model = GR00T_N1_5.on_meta(trainer.model.config, self.precision)
        state = {name: value.to("cpu", self.precision) for name, value in trainer.weights()}
        model.load_state_dict(state, strict=True, assign=True)
        model.save_pretrained(folder)  # last: what a checkpoint is known by, its config.json


def go_on(trainer: Trainer, output: Path) -> None:
    """Bring a trainer to the newest checkpoint that is whole, if there is any.

    Raises:
        StateError: there are some, and all are damaged.
        TrainingError: they are of another run.
    """
    # Earlier versions kept the state in the folder itself.
    found = [folder for _, folder in checkpoints_of(output)] + [output] * (output / STATE_FILE).is_file()
    for place, folder in enumerate(found):
        try:
            trainer.resume(folder)
        except StateError as error:
            if place + 1 == len(found):
                raise StateError(f"{error}; there is none before it; remove it to begin again") from error
            logger.warning("%s; going on from the one before it", error)
        else:
            return


def _reason(error: SafetensorError) -> str:
    text = str(error)
    return "No space left on device" if "os error 28" in text else text
