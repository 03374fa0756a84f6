"""A groot policy of lerobot, ready to be served: its rules, its keys and the pipeline between them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.schema import DatasetMetadata
from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.model.checkpoint.json_section import CheckpointError
from gr00t.model.checkpoint.source import Source, served_config
from gr00t.model.lerobot.keys import GrootKeys, derived_keys, fitted_keys
from gr00t.model.lerobot.rules import GrootRules, read_rules
from gr00t.model.lerobot.transforms import groot_pipeline

logger = logging.getLogger(__name__)

_NEARLY_ZERO = 0.5


@dataclass(frozen=True)
class GrootServing:
    """What serves a groot folder: a data configuration, and what stands in metadata.json elsewhere.

    Attributes:
        rules: of the folder.
        keys: under which observations come.
        image_size: side of the square images that the model takes.
    """

    rules: GrootRules
    keys: GrootKeys
    image_size: int

    def modality_config(self) -> dict[str, ModalityConfig]:
        """The keys and their time steps."""
        return self.keys.modality_config()

    def transform(self) -> ComposedModalityTransform:
        """Build the pipeline; every call returns a new one."""
        return groot_pipeline(self.rules, self.keys, self.image_size)

    @property
    def metadata(self) -> DatasetMetadata:
        """Shapes and ranges by the keys."""
        return self.keys.metadata(self.rules)

    @property
    def tokenizer(self) -> str | None:
        """Folder or hub id of the tokenizer that the folder names."""
        return self.rules.tokenizer or None

    def say(self, folder: Path) -> None:
        """Tell in the log which rules hold, and under which keys."""
        rules, keys = self.rules, self.keys
        logger.info(
            "%s: a groot policy of lerobot; prepared as lerobot does: frames resized whole, states and "
            "actions each normalized as one vector by min and max, prompt ['TEXT'], embodiment %r, "
            "number %d%s",
            folder,
            rules.embodiment_tag,
            rules.embodiment,
            " (a name that lerobot does not know)" if rules.embodiment == 0 else "",
        )
        pairs = ", ".join(f"{ours} ({own})" for ours, own in zip(keys.cameras, rules.cameras, strict=True))
        logger.info(
            "keys: %s; %s; %s; %s%s",
            pairs,
            ", ".join(f"{key} ({width})" for key, width in keys.state.items()),
            keys.language,
            ", ".join(f"{key} ({width})" for key, width in keys.action.items()),
            "" if keys == derived_keys(rules) else "; of the data config its keys alone are used",
        )
        if rules.renamed:
            names = ", ".join(f"{robot} is {own}" for robot, own in rules.renamed)
            logger.info("in training the robot's keys were renamed: %s", names)
        self._warn_of_the_gripper()

    def _warn_of_the_gripper(self) -> None:
        start = 0
        for key, width in self.keys.action.items():
            low = self.rules.action.low[start : start + width]
            if key == "action.gripper" and width == 1 and low[0] < -_NEARLY_ZERO:
                logger.warning(
                    "action.gripper goes down to %g in this policy's data; where 0 (closed) to 1 (open) is "
                    "expected, as of NVIDIA's LIBERO policies, it would move the wrong way",
                    low[0],
                )
            start += width


def groot_serving(
    source: Source,
    embodiment_tag: str | EmbodimentTag | None = None,
    modalities: Mapping[str, ModalityConfig] | None = None,
) -> GrootServing | None:
    """Prepare what serves a groot policy; None where the folder is of another kind.

    Args:
        source: of the model.
        embodiment_tag: None, or what the folder says.
        modalities: of a data configuration whose keys are to be served; None: the folder's own.

    Raises:
        CheckpointError: the folder's files contradict each other, or the tag or the keys do not fit them.
    """
    folder = source.folder
    rules = read_rules(folder)
    if rules is None:
        return None
    tag = embodiment_tag.value if isinstance(embodiment_tag, EmbodimentTag) else embodiment_tag
    if tag is not None and tag != rules.embodiment_tag:
        raise CheckpointError(
            f"{folder} was trained as {rules.embodiment_tag!r}, not {tag!r}; leave --embodiment-tag out"
        )
    config = served_config(source.config, folder)
    if rules.horizon > config.action_horizon:
        raise CheckpointError(
            f"{folder}: chunk_size asks for {rules.horizon} actions, the checkpoint that it began from "
            f"predicts {config.action_horizon}"
        )
    keys = derived_keys(rules) if modalities is None else fitted_keys(rules, modalities, folder)
    return GrootServing(rules, keys, config.image_size)
