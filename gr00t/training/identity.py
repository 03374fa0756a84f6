"""What a run that goes on must agree in besides its plan: data, and what becomes of them, and start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from gr00t.data.schema import DatasetMetadata
from gr00t.serving.identity import config_hash

_LOOKED_AT = 64
_DIGITS = 12


@dataclass(frozen=True)
class DataSettings:
    """How the data of a run are read.

    Attributes:
        data_config: name of the data configuration.
        frame_rule: which frame a row sees, see `gr00t.data.lerobot.rows.row_frames`.
        prompt_style: how the prompt shows an instruction.
        mixture: how several data sets are mixed, as JSON; empty for one.
    """

    data_config: str
    frame_rule: str
    prompt_style: str
    mixture: Mapping[str, Any] = field(default_factory=dict)


class Rows(Protocol):
    """Data sets that know what is in them."""

    def digest(self) -> str:
        """SHA-256 of all rows."""


def data_identity(
    settings: DataSettings, rows: Rows, metadata: DatasetMetadata, data_config: Any, model: nn.Module
) -> dict[str, Any]:
    """Describe data and start, as JSON.

    Args:
        settings: how the data are read.
        rows: of all data sets.
        metadata: of the data, with their statistics.
        data_config: by its content, since a name stays when a number in it changes.
        model: as it was loaded.
    """
    described = json.dumps(metadata.model_dump(mode="json"), sort_keys=True)
    return {
        "data": _short(hashlib.sha256(described.encode())),
        "data_config": settings.data_config,
        "frames": settings.frame_rule,
        "start": _weights_of(model),
        **settings.mixture,
        "rows": rows.digest()[:_DIGITS],
        "pipeline": config_hash(data_config)[:_DIGITS],
        "prompt_style": settings.prompt_style,
    }


def _weights_of(model: nn.Module) -> str:
    """Of every tensor some numbers, from all over it: enough to tell one checkpoint from another."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        some = flat[:: max(1, len(flat) // _LOOKED_AT)][:_LOOKED_AT].float()
        digest.update(name.encode() + some.cpu().numpy().tobytes())
    return _short(digest)


def _short(digest: Any) -> str:
    text: str = digest.hexdigest()
    return text[:_DIGITS]
