"""Whether a data configuration fits a checkpoint, by sizes: before data are decoded or weights read.

A chunk may have any number of actions that the checkpoint has positions for, since no other weight depends on
it; widths of state and action are those of weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from gr00t.data.dataset import ModalityConfig
from gr00t.data.schema import DatasetMetadata, RotationType, StateActionMetadata
from gr00t.data.transform.base import ModalityTransform
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.rotation import rotation_width
from gr00t.data.transform.state_action import (
    StateActionDropout,
    StateActionPerturbation,
    StateActionSinCosTransform,
    StateActionToTensor,
    StateActionTransform,
)
from gr00t.model.checkpoint.config import CONFIG_FILE, Gr00tConfig
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.transform_setup import last_step, steps_of

logger = logging.getLogger(__name__)

_KEEP_THE_WIDTH = (StateActionToTensor, StateActionPerturbation, StateActionDropout)


def check_fit(
    modalities: Mapping[str, ModalityConfig],
    pipeline: ModalityTransform,
    described: Mapping[str, StateActionMetadata],
    config: Gr00tConfig,
) -> None:
    """Compare time steps, widths, rotations and normalization of a data configuration with keys and model.

    Args:
        modalities: keys and time steps of the data configuration.
        pipeline: its transform.
        described: what the keys are (`state.x`, `action.x`), by the data set or by the checkpoint's metadata.
        config: of the model.

    Raises:
        ValueError: they do not fit; the message names the keys with their widths, and the limit.
    """
    last = last_step(pipeline)
    if "action" not in modalities:
        raise ValueError("the data config's modality_config() has no 'action': what is to be predicted?")
    for kind, promised in (("action", last.action_horizon), ("state", last.state_horizon)):
        steps = len(modalities[kind].delta_indices) if kind in modalities else promised
        # Who only infers may leave the number of actions to the delta_indices, as in the reference.
        if steps != promised and (kind == "state" or last.training):
            raise ValueError(
                f"the data config asks for {steps} time steps of {kind} (delta_indices), its GR00TTransform "
                f"for {promised} ({kind}_horizon); both must be the same"
            )
    with_horizon(config, len(modalities["action"].delta_indices))
    for step in steps_of(pipeline):
        if isinstance(step, StateActionTransform):
            step.check_keys(described)
    limits = {"state": last.max_state_dim, "action": last.max_action_dim}
    for kind, widths in joined_widths(pipeline, described).items():
        known = [width for width in widths.values() if width is not None]
        if len(known) == len(widths) and sum(known) > limits[kind]:
            parts = ", ".join(f"{key} {width}" for key, width in widths.items())
            raise ValueError(
                f"{kind}: {sum(known)} numbers per time step, the model takes at most {limits[kind]}: "
                f"{parts}; leave keys out of the data config"
            )


def joined_widths(
    pipeline: ModalityTransform, described: Mapping[str, StateActionMetadata]
) -> dict[str, dict[str, int | None]]:
    """How many numbers each key has where state and action are joined, by kind; of the keys described.

    None stands for a key whose width a user's own transform may change.
    """
    steps = list(steps_of(pipeline))
    for concat in steps:
        if isinstance(concat, ConcatTransform):
            orders = {"state": concat.state_concat_order, "action": concat.action_concat_order}
            return {
                kind: {key: _width(key, described[key], steps) for key in order or () if key in described}
                for kind, order in orders.items()
            }
    return {}


def _width(key: str, described: StateActionMetadata, steps: Sequence[ModalityTransform]) -> int | None:
    """See `joined_widths`."""
    width, rotation = described.shape[0], described.rotation_type
    for step in steps:
        if isinstance(step, ConcatTransform):
            break
        if type(step) is StateActionTransform:
            target = step.target_rotations.get(key)
            if target is not None and rotation is not None:
                rotation = RotationType(target)
                width = rotation_width(rotation)
        elif key in step.apply_to:
            if type(step) is StateActionSinCosTransform:
                width *= 2
            elif type(step) not in _KEEP_THE_WIDTH:
                return None
    return width


def described_keys(metadata: DatasetMetadata) -> dict[str, StateActionMetadata]:
    """States and actions of a checkpoint's metadata under their prefixed keys."""
    tables = {"state": metadata.modalities.state, "action": metadata.modalities.action}
    return {f"{kind}.{name}": entry for kind, table in tables.items() for name, entry in table.items()}


def with_horizon(config: Gr00tConfig, horizon: int) -> Gr00tConfig:
    """Return the configuration for another number of predicted actions.

    Raises:
        ValueError: no action, or more than the checkpoint has positions for.
    """
    limit = config.action_head.max_seq_len
    if horizon < 1 or (limit is not None and horizon > limit):
        allowed = "at least 1 is needed" if horizon < 1 else f"the checkpoint has positions for {limit}"
        raise ValueError(f"the data config asks for {horizon} actions per chunk, {allowed}")
    if horizon == config.action_horizon:
        return config
    files = config.to_json_files()
    files[CONFIG_FILE]["action_horizon"] = horizon
    files[CONFIG_FILE]["action_head_cfg"]["action_horizon"] = horizon
    return Gr00tConfig.from_json_files(files)


def set_horizon_(model: GR00T_N1_5, horizon: int) -> None:
    """Let a model predict, or learn, another number of actions.

    Raises:
        ValueError: see `with_horizon`.
    """
    if horizon != model.config.action_horizon:
        logger.info("predicting %d actions per chunk instead of %d", horizon, model.config.action_horizon)
    model.config = with_horizon(model.config, horizon)
    model.action_head.config = model.config.action_head
