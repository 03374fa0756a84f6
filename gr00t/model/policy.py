"""A checkpoint served as a policy: observation dict in, action dict out."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gr00t.data.actions import check_actions
from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.errors import MetadataError, ObservationError
from gr00t.data.observation import prepare_observation
from gr00t.data.schema import load_metadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.model.checkpoint.source import find_metadata, served_config
from gr00t.model.checkpoints import Checkpoint, open_checkpoint
from gr00t.model.compiling import compile_model
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.model.lerobot.observation import from_lerobot
from gr00t.model.lerobot.serving import GrootServing, groot_serving
from gr00t.model.network.request import draw_noise
from gr00t.model.preprocessing.fitting import check_fit, described_keys, set_horizon_
from gr00t.model.preprocessing.gr00t_transform import Tokenizer
from gr00t.model.preprocessing.prepared_observation import PreparedObservation
from gr00t.model.preprocessing.tokenizer import resolve_tokenizer
from gr00t.model.preprocessing.transform_setup import bind_to_model
from gr00t.model.serving_form import settle_weights

__all__ = ["BasePolicy", "Gr00tPolicy", "MetadataError", "ObservationError"]

logger = logging.getLogger(__name__)


class BasePolicy(ABC):
    """What a server can serve."""

    @abstractmethod
    def get_action(self, observations: dict[str, Any]) -> dict[str, Any]:
        """Return the actions for an observation."""

    @abstractmethod
    def get_modality_config(self) -> dict[str, ModalityConfig]:
        """Return the keys and time steps that the policy works with."""


class Gr00tPolicy(BasePolicy):
    """GR00T N1.5 with its preprocessing, optionally quantized.

    Attributes:
        model: the network, in eval mode on `device`.
        metadata: shapes and statistics of the embodiment's training data.
        model_path: folder that was named; `read_from` has whatever else was read, outside of it.
        file_hashes: SHA-256 of files by their path in `model_path`, as they were when the model was loaded.
        groot: lerobot's rules and keys, where it is a policy of lerobot; else None.
        embodiment_name: what the checkpoint calls the robot; lerobot has more names than there are tags.
        quantization: the report of what was quantized, or None.
    """

    def __init__(
        self,
        model_path: str | Path | Checkpoint,
        embodiment_tag: str | EmbodimentTag | None = None,
        modality_config: dict[str, ModalityConfig] | None = None,
        modality_transform: ComposedModalityTransform | None = None,
        denoising_steps: int | None = None,
        device: int | str | torch.device | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        base: str | Path | None = None,
        tokenizer: str | Tokenizer | None = None,
        prompt_style: str = "brackets",
        seed: int | None = None,
        compiled: bool = False,
        settled: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Load a checkpoint; everything that can be checked without reading its weights is checked before.

        Args:
            model_path: a checkpoint folder, a quantized one's or an adapter's, or its id on the model hub; or
                what `open_checkpoint` made of it.
            embodiment_tag: whose statistics and whose part of the action head are used; new_embodiment if
                None. A groot policy of lerobot knows its own, and contradicts another one.
            modality_config: keys and time steps; as many actions are predicted as `action` has time steps. A
                groot policy of lerobot has keys of its own, which hold if it is None.
            modality_transform: the pipeline; it must contain a GR00TTransform. Not used for a groot policy.
            denoising_steps: Euler steps per action chunk; the checkpoint's own number if None.
            device: a GPU if there is one and it is None.
            torch_dtype: bfloat16 if None.
            base: of a path or id, the checkpoint that an adapter was trained on, or that a groot policy began
                from.
            tokenizer: a tokenizer, or where to look if the checkpoint has none: a folder or a hub id.
            prompt_style: "brackets" (the reference's inference) or "plain" (its training).
            seed: fixes the noise of the requests that name no seed themselves, by the order of their coming.
            compiled: let torch.compile fuse what runs between the quantized layers: the first requests take
                minutes, later ones less time than without.
            settled: the weights stay as they are from now on, which makes requests faster: the model can be
                neither moved nor quantized afterwards (`gr00t.model.serving_form`). A server wants it. A
                quantized checkpoint is not read whole then, either, on a CPU (`gr00t.model.served_parts`).
            environ: where the GR00T_DUQUANT_* settings are read from. An artefact needs none, and contradicts
                those that ask for something else (`gr00t.quantization.checkpoint.manifest.Manifest.config`).

        Raises:
            CheckpointError, MetadataError, TokenizerError: something is missing or broken in the checkpoint.
            ArtefactError: a quantized artefact that is damaged or of another version.
            DuQuantConfigError, DuQuantSelectionError: the settings in `environ` are wrong.
            ValueError: an unknown embodiment tag, prompt style or device, or a data configuration that does
                not fit the checkpoint; the errors above are ValueErrors, too.
        """
        self.device = _device(device)
        if isinstance(model_path, str | Path):
            model_path = open_checkpoint(model_path, base)
        source = model_path.source
        config = served_config(source.config, source.folder)
        self.model_path = source.folder
        self.read_from = source.more
        self._seeds = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        self.groot: GrootServing | None = groot_serving(source, embodiment_tag, modality_config)
        if self.groot is not None:
            self.groot.say(self.model_path)
            modality_config, modality_transform = self.groot.modality_config(), self.groot.transform()
            self.metadata = self.groot.metadata
            self.embodiment_tag = self.metadata.embodiment_tag
            self.embodiment_name = self.groot.rules.embodiment_tag
        else:
            if modality_config is None or modality_transform is None:
                raise ValueError(f"{source.folder} needs a data config: which keys, prepared in which way")
            self.embodiment_tag = EmbodimentTag(embodiment_tag or EmbodimentTag.NEW_EMBODIMENT)
            self.embodiment_name = self.embodiment_tag.value
            metadata = find_metadata(source.folder)
            self.metadata = load_metadata(metadata, self.embodiment_tag)
            if not any(metadata.is_relative_to(folder) for folder in source.folders):
                self.read_from = (*self.read_from, metadata)
        self._modality_config = modality_config
        self._modality_transform = modality_transform
        modality_transform.eval()
        modality_transform.set_metadata(self.metadata)
        check_fit(modality_config, modality_transform, described_keys(self.metadata), config)
        if tokenizer is None or isinstance(tokenizer, str):
            own = self.groot.tokenizer if self.groot is not None else None
            tokenizer = resolve_tokenizer(source.folders, tokenizer, own)
        number = bind_to_model(modality_transform, config, tokenizer, self.embodiment_tag, prompt_style)
        self._pad_token_id = tokenizer.pad_token_id

        # On a GPU an embodiment is known only by waiting for it; a compiler would look into the tables.
        is_fixed = settled and not compiled and self.device.type == "cpu"
        model, self.quantization = model_path.load_model(
            torch_dtype or torch.bfloat16, environ, number if is_fixed else None
        )
        assert isinstance(model, GR00T_N1_5), "served_config says so"
        self.model = model
        self.file_hashes = model_path.file_hashes
        if self.groot is None:  # lerobot's model predicts its whole chunk, of which the first are taken
            set_horizon_(self.model, len(modality_config["action"].delta_indices))
        if self.model.device != self.device:
            self.model.to(self.device)
        if self.quantization is not None:
            self.quantization.check_backends()
        if settled:
            settle_weights(self.model, packs=not compiled)
        if compiled:
            compile_model(self.model)
        if denoising_steps is not None:
            self.denoising_steps = denoising_steps

    def get_action(
        self,
        observations: dict[str, Any],
        *,
        seeds: int | Sequence[int] | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> dict[str, np.ndarray]:
        """Return a chunk of actions.

        Args:
            observations: see `gr00t.data.observation.prepare_observation`.
            seeds: fixes the noise that the flow starts from: one seed per sample, or one for every sample. A
                sample gets the same noise alone and in a batch.
            noise: that noise itself, (B, H, A).

        Returns:
            Per action key a float32 array (H, A), or (B, H, A) if the observation was a batch.

        Raises:
            ObservationError: the observation does not fit; the message names the key.
            ActionError: a number of the action is not finite.
        """
        return check_actions(self.get_actions([self.prepare(observations, seeds=seeds, noise=noise)])[0])

    def prepare(
        self,
        observations: dict[str, Any],
        *,
        seeds: int | Sequence[int] | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> PreparedObservation:
        """Do everything for one request that comes before the network; see `get_action`.

        Raises:
            ObservationError: the observation does not fit; the message names the key.
        """
        request: Mapping[str, Any] = observations
        if self.groot is not None:
            request = from_lerobot(observations, self.groot.rules, self.groot.keys)
        prepared, batched = prepare_observation(request, self._modality_config, self.metadata)
        inputs = ModelInputs.from_mapping(self._modality_transform(prepared), self.model.config)
        batch = len(inputs.state)
        if noise is not None:
            noise = torch.as_tensor(noise)
        chosen = None if noise is not None else self._sample_seeds(seeds, batch)
        start = draw_noise(batch, self.model.config, noise, chosen, self.model.dtype)
        return PreparedObservation(inputs, start, batched)

    def get_actions(self, requests: Sequence[PreparedObservation]) -> list[dict[str, np.ndarray]]:
        """Answer prepared requests of one `kind` in one forward.

        Returns:
            Per request what `get_action` returns, but not looked at: `check_actions` does so for each.
        """
        inputs = ModelInputs.cat([request.inputs for request in requests], self._pad_token_id)
        noise = torch.cat([request.noise for request in requests])
        with torch.inference_mode():
            predicted = self.model.get_action(inputs, noise=noise)
        actions = self._modality_transform.unapply({"action": predicted["action_pred"].float().cpu()})
        arrays = {
            key: np.asarray(actions[key], dtype=np.float32)
            for key in self._modality_config["action"].modality_keys
        }
        answers = []
        first = 0
        for request in requests:
            rows = slice(first, first + request.samples) if request.batched else first
            answers.append({key: array[rows] for key, array in arrays.items()})
            first += request.samples
        return answers

    @property
    def can_batch(self) -> bool:
        """Whether requests of several clients may share a forward.

        Not while activation scales are calibrated online: a call of the model counts as one request there.
        """
        return self.quantization is None or not self.quantization.pools_requests

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        """Return the keys and time steps of each modality."""
        return self._modality_config

    def quantization_report(self) -> dict[str, Any]:
        """Return what was quantized, as plain data; `{"enabled": False}` if nothing was."""
        return {"enabled": False} if self.quantization is None else self.quantization.to_dict()

    @property
    def modality_config(self) -> dict[str, ModalityConfig]:
        """Same as `get_modality_config()`."""
        return self._modality_config

    @property
    def modality_transform(self) -> ComposedModalityTransform:
        """The pipeline between observation and model."""
        return self._modality_transform

    @property
    def denoising_steps(self) -> int:
        """Euler steps per action chunk."""
        return self.model.action_head.num_inference_timesteps

    @denoising_steps.setter
    def denoising_steps(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"denoising_steps: expected at least 1, got {value}")
        self.model.action_head.num_inference_timesteps = value

    def _sample_seeds(self, seeds: int | Sequence[int] | None, batch: int) -> list[int] | None:
        """Return one seed per sample, or None if the noise is to be drawn from the global generator."""
        if seeds is None:
            if self._seeds is None:
                return None
            return torch.randint(2**62, (batch,), generator=self._seeds).tolist()
        values = [seeds] * batch if isinstance(seeds, int) else list(seeds)
        if len(values) != batch:
            raise ObservationError(f"seeds: expected {batch}, one per sample, got {len(values)}")
        return values


def _device(device: int | str | torch.device | None) -> torch.device:
    """Return the device, checked before minutes are spent on reading weights."""
    available = torch.cuda.is_available()
    if device is None:
        return torch.device("cuda" if available else "cpu")
    resolved = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if resolved.type == "cuda" and not available:
        raise ValueError(
            f"device {str(resolved)!r}: torch {torch.__version__} finds no CUDA device here; use 'cpu'"
        )
    return resolved
