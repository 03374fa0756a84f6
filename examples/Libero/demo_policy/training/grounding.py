"""Learning what things are and what they are called, before learning to act.

A network that starts from nothing learns from actions alone only slowly where things are: most of an action
follows from the state and the habits of an episode. Here two linear layers, which exist in training only, ask
it directly, of pictures in which every object's place is known:

1. *seen*: of every kind of object, which patch of an image shows its middle, asked of the image's tokens as
   they enter the language model;
2. *meant*: of the one object that the instruction names, the same, asked of these tokens as the action head
   attends to them. Only instruction and image together tell;
3. while it learns to act, how far it is from the hand to that object: `reaching`.

Shapes: B scenes · C cameras · K kinds · P patches per image, G x G · T tokens · D width of a token
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from examples.Libero.demo_policy.training.reaching import Reaching
from gr00t.data.lerobot.meta.faults import DatasetError
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.gr00t_transform import chat_prompt
from gr00t.model.preprocessing.tokenizer import PromptTokenizer
from gr00t.training.losses import Loss, Part
from gr00t.training.plan import TrainingPlan, choose_parameters

# Most kinds are not to be seen in most images: the answer "nowhere" starts with this advantage.
_NOWHERE = 3.0
_MEANT_WEIGHT = 2.0
# Where questions weigh 0.5 and waypoints 2, as for the demonstration policy, either way counts the same.
_REACHING_WEIGHT = 4.0


@dataclass(frozen=True)
class Places:
    """Where things are in images, on a grid of G x G patches.

    Attributes:
        patches: (..., K) int64, 0 to G*G - 1, by rows; G*G where nothing is visible.
        positions: (..., K, 2) from the middle of the image, in patches, to the right and down.
        visible: (..., K) bool.
    """

    patches: Tensor
    positions: Tensor
    visible: Tensor

    @classmethod
    def of(cls, centres: Tensor, side: int) -> Places:
        """From centres (..., K, 2) as shares of the image, nan where nothing is seen."""
        visible = ~centres[..., 0].isnan()
        scaled = centres.nan_to_num().clamp(0.0, 1.0 - 1e-6) * side
        cells = scaled.floor()
        patches = (cells[..., 1] * side + cells[..., 0]).long()
        return cls(torch.where(visible, patches, side * side), scaled - side / 2, visible)

    def of_kind(self, kinds: Tensor) -> Places:
        """Those of one kind per scene: of (B, C, K) and kinds (B,) the places (B, C, 1)."""
        index = kinds[:, None, None].expand(-1, self.patches.shape[1], 1)
        return Places(
            self.patches.gather(2, index),
            self.positions.gather(2, index[..., None].expand(-1, -1, -1, 2)),
            self.visible.gather(2, index),
        )


class Pointer(nn.Module):
    """A linear answer of every token: is the middle of it here, and where in the image is that?

    The second half is what acting needs: attention finds a token by what it shows, and then takes from it
    where it is. A token that only knows its own patch has nothing to say to that.

    Args:
        width: of a token, D.
        kinds: of things that are asked for, K.
        cameras: C.
    """

    def __init__(self, width: int, kinds: int, cameras: int) -> None:
        super().__init__()
        self._kinds = kinds
        self.answer = nn.Linear(width, 3 * kinds)
        self.nowhere = nn.Parameter(torch.full((cameras, kinds), _NOWHERE))

    def forward(self, tokens: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Loss, and the share of what is visible whose patch is found, two scalars.

        The loss is the cross-entropy over the P patches and "nowhere", and the squared error of the position,
        in patches, at the right patch.

        Args:
            tokens: (B, C, P, D).
            places: (B, C, K).
        """
        batch, patches = tokens.shape[0], tokens.shape[2]
        answers = self.answer(tokens).unflatten(-1, (self._kinds, 3)).transpose(2, 3)
        nowhere = self.nowhere[None, :, :, None].expand(batch, -1, -1, -1)
        logits = torch.cat([answers[..., 0], nowhere], dim=-1)
        missed = functional.cross_entropy(logits.flatten(0, 2), places.patches.flatten())
        index = places.patches.clamp(max=patches - 1)[..., None, None].expand(-1, -1, -1, 1, 2)
        positions = answers[..., 1:].gather(3, index).squeeze(3)
        distances = (positions - places.positions).square().sum(-1)
        found = (logits.argmax(-1) == places.patches)[places.visible].float().mean()
        return missed + distances[places.visible].mean(), found


class Questions(nn.Module):
    """Labelled scenes, and the layers that answer what is asked of them.

    Args:
        model: whose tokens are asked; not kept.
        images: (N, C, S, S, 3) uint8.
        centres: (N, C, K, 2), see `gr00t.libero.datagen.labelled_scenes.LabelledScenes`.
        prompts: one per kind that instructions ask for, the first of the K; none: only what is *seen* is
            asked, of vision alone.
        tokenizer: the model's.
        chosen: numbers of the scenes that are trained on.
        batch_size: scenes per step.
        seed: of batches, of what is asked, and of the layers.
        reaching: asked as well, where there are prompts.

    Raises:
        ValueError: no images, or not as many labels; a prompt without a kind; reaching without prompts.
    """

    def __init__(
        self,
        model: GR00T_N1_5,
        images: NDArray[np.uint8],
        centres: NDArray[np.float32],
        prompts: Sequence[str],
        tokenizer: PromptTokenizer,
        chosen: NDArray[np.int64],
        batch_size: int,
        seed: int,
        reaching: Reaching | None = None,
    ) -> None:
        super().__init__()
        if reaching is not None and not prompts:
            raise ValueError("how far it is to an object can be asked only with prompts")
        if not len(images) or len(images) != len(centres):
            raise ValueError(f"{len(images)} images, {len(centres)} labels: expected as many, at least one")
        self._images, self._centres = images, torch.from_numpy(centres)
        self._cameras, self._kinds = centres.shape[1:3]
        if len(prompts) > self._kinds:
            raise ValueError(f"{len(prompts)} prompts for {self._kinds} kinds of objects")
        config = model.config
        self._side = round(config.tokens_per_image**0.5)
        self._prompts = None
        self._asked = list(prompts)
        if prompts:
            self._prompts = tokenize(prompts, tokenizer, self._cameras, config.tokens_per_image)
        self._chosen, self._batch_size, self._seed = chosen, batch_size, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.seen = Pointer(config.language.hidden_size, self._kinds, self._cameras)
            self.meant = Pointer(config.backbone_width, 1, self._cameras)
        self.reaching = reaching

    @property
    def with_prompts(self) -> bool:
        """Whether it is asked what an instruction means."""
        return self._prompts is not None

    def identity(self) -> dict[str, int | list[str]]:
        """What a run that goes on must agree in: scenes, how many of them per step, what is asked of them."""
        return {
            "scenes": len(self._chosen),
            "scene_batch": self._batch_size,
            "prompts": self._asked,
        }

    def loss(self, model: GR00T_N1_5, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of the scenes of a step, always the same ones, and the shares of places that are found."""
        random = np.random.default_rng([self._seed, step])
        return self._ask(model, random.choice(self._chosen, self._batch_size), random)

    @torch.no_grad()
    def evaluate(self, model: GR00T_N1_5, chosen: NDArray[np.int64]) -> dict[str, float]:
        """Means over the scenes of these numbers: loss and shares."""
        random = np.random.default_rng(self._seed)
        size = self._batch_size
        batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        figures = [
            {"loss": loss.item(), **found}
            for loss, found in (self._ask(model, batch, random) for batch in batches)
        ]
        weights = [len(batch) for batch in batches]
        return {
            name: float(np.average([each[name] for each in figures], weights=weights)) for name in figures[0]
        }

    def _ask(
        self, model: GR00T_N1_5, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        device = model.device
        pixels = to_pixels(self._images[chosen], model.config.image_size).to(device)
        places = Places.of(self._centres[chosen].to(device), self._side)
        tokens = model.backbone.look(pixels)
        loss, found = self.seen(self._by_camera(tokens), places)
        figures = {"seen": found.item()}
        if self._prompts is None:
            return loss, figures
        named = self._name(places, random).to(device)
        input_ids, valid = (rows.to(device)[named] for rows in self._prompts)
        features = model.backbone.read(tokens, input_ids, valid)
        if model.adapter is not None:
            features = model.adapter(features, valid)
        at_images = features[input_ids == model.config.image_token_index]
        missed, found = self.meant(self._by_camera(at_images), places.of_kind(named))
        loss, figures = loss + _MEANT_WEIGHT * missed, {**figures, "meant": found.item()}
        if self.reaching is not None:
            generator = torch.Generator().manual_seed(int(random.integers(2**32)))
            missed = self.reaching.loss(model.action_head, features, valid, chosen, named, generator)
            loss, figures = loss + _REACHING_WEIGHT * missed, {**figures, "reaching_loss": missed.item()}
        return loss, figures

    def _name(self, places: Places, random: np.random.Generator) -> Tensor:
        """For each scene one of the kinds that the first camera sees and an instruction names, (B,)."""
        assert self._prompts is not None
        visible = places.visible[:, 0, : len(self._prompts[0])].cpu().numpy()
        if not visible.any(axis=1).all():
            raise DatasetError("a scene shows nothing that an instruction names")
        return torch.tensor([int(random.choice(np.flatnonzero(row))) for row in visible])

    def _by_camera(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(-1, self._cameras, self._side**2, tokens.shape[-1])


class GroundingLoss(Loss):
    """The questions, once a step: what a network has learned of seeing it loses while it learns to act.

    Args:
        questions: this process' share of them.
        weight: of the loss.
    """

    name = "grounding"

    def __init__(self, questions: Questions, weight: float) -> None:
        self.weight = weight
        self._questions = questions

    def layers(self) -> Mapping[str, nn.Module]:
        """The layers that answer."""
        return {"questions": self._questions}

    def identity(self) -> Mapping[str, Any]:
        """The weight, and what the questions are about."""
        return {"grounding_weight": self.weight, **self._questions.identity()}

    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[Tensor, Mapping[str, float]] | None:
        """The loss of the scenes of a step, with its first part."""
        return None if part.number else self._questions.loss(model, part.step.number)


def ground(model: GR00T_N1_5, questions: Questions, plan: TrainingPlan) -> Iterator[dict[str, float]]:
    """Train what answers the questions: vision and, where instructions are asked, language model and adapter.

    Args:
        model: trained in place.
        questions: what is asked.
        plan: of which parts, precision, draws, averages, batch size and other losses are not used.

    Yields:
        After every step its number, the loss and the shares that were found.
    """
    parts = ("vision", "language") if questions.with_prompts else ("vision",)
    parameters = [*choose_parameters(model, parts).values(), *questions.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
    )
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate_at(step)
        loss, found = questions.loss(model, step)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, plan.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield {"step": step + 1, "loss": loss.item(), **found}


def to_pixels(images: NDArray[np.uint8], size: int) -> Tensor:
    """Images (B, C, S, S, 3) as the vision encoder takes them, (B*C, 3, size, size) in [-1, 1]."""
    pixels = torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2).float()
    if pixels.shape[-1] != size:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return (pixels.round() - 127.5) / 127.5


def tokenize(
    sentences: Sequence[str], tokenizer: PromptTokenizer, images: int, tokens_per_image: int
) -> tuple[Tensor, Tensor]:
    """Prompts as they are served, `['TEXT']`, padded on the left: ids and validity, (sentences, T) each."""
    rows = [tokenizer.encode(chat_prompt(str([text]), images, tokens_per_image)) for text in sentences]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        valid[number, longest - len(row) :] = True
    return ids, valid
