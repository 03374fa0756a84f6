"""Giving a data configuration's transforms what only the checkpoint knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.transform.base import ComposedModalityTransform, ModalityTransform
from gr00t.model.checkpoint.config import Gr00tConfig
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform, Tokenizer

logger = logging.getLogger(__name__)


def bind_to_model(
    pipeline: ModalityTransform,
    config: Gr00tConfig,
    tokenizer: Tokenizer,
    embodiment_tag: EmbodimentTag,
    prompt_style: str,
) -> int:
    """Bind the one GR00TTransform of `pipeline` to the model of `config`.

    Returns:
        The number of the embodiment, whose weights every request asks for.

    Raises:
        ValueError: there is not exactly one, its sizes are not the model's, the model has no weights for the
            embodiment, or the prompt style is unknown.
        TokenizerError: the tokenizer is not the model's.
    """
    transform = last_step(pipeline)
    sizes = {"max_state_dim": config.max_state_dim, "max_action_dim": config.action_dim}
    for name, size in sizes.items():
        if getattr(transform, name) != size:
            raise ValueError(
                f"GR00TTransform {name}={getattr(transform, name)}, but the checkpoint has {size}"
            )
    number = transform.embodiment_tag_mapping[embodiment_tag.value]
    if not 0 <= number < config.num_embodiments:
        raise ValueError(
            f"embodiment {embodiment_tag.value!r} is number {number}, the checkpoint has "
            f"{config.num_embodiments} embodiments"
        )
    transform.bind(
        tokenizer,
        image_size=config.image_size,
        tokens_per_image=config.tokens_per_image,
        image_token_index=config.image_token_index,
        vocab_size=config.vocab_size,
        prompt_style=prompt_style,
    )
    example = "['TEXT']" if prompt_style == "brackets" else "TEXT"
    logger.info("prompt form: %s, an instruction TEXT is served as %s", prompt_style, example)
    return number


def last_step(pipeline: ModalityTransform) -> GR00TTransform:
    """Return the one GR00TTransform of a pipeline.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [step for step in steps_of(pipeline) if isinstance(step, GR00TTransform)]
    if len(found) != 1:
        raise ValueError(f"the data config's transform must contain one GR00TTransform, it has {len(found)}")
    return found[0]


def steps_of(transform: ModalityTransform) -> Iterator[ModalityTransform]:
    """Yield all steps of a pipeline in order, those of nested ones included."""
    if isinstance(transform, ComposedModalityTransform):
        for step in transform.transforms:
            yield from steps_of(step)
    else:
        yield transform
