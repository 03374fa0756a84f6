"""What a run that goes on must agree in besides its plan: data, and what becomes of them, and start."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import nn

from gr00t.cli.training.arguments import Arguments
from gr00t.cli.training.data import Samples
from gr00t.data.lerobot.rows.row_frames import RULE_OF_BACKEND
from gr00t.data.schema import DatasetMetadata
from gr00t.serving.identity import config_hash

_LOOKED_AT = 64
_DIGITS = 12


def data_identity(arguments: Arguments, metadata: DatasetMetadata, model: nn.Module) -> dict[str, Any]:
    """Describe them, as JSON.

    Args:
        arguments: of the run.
        metadata: of the data, with their statistics.
        model: as it was loaded.
    """
    described = json.dumps(metadata.model_dump(mode="json"), sort_keys=True)
    identity: dict[str, Any] = {
        "data": _short(hashlib.sha256(described.encode())),
        "data_config": arguments.data_config,
        "frames": RULE_OF_BACKEND[arguments.video_backend],
        "start": _weights_of(model),
    }
    if len(arguments.data) > 1:
        identity["data_weights"] = list(arguments.data_weights)
        identity["balanced"] = [
            arguments.balance_dataset_weights is not False,
            arguments.balance_trajectory_weights is not False,
        ]
    return identity


def pipeline_identity(arguments: Arguments, samples: Samples, data_config: Any) -> dict[str, Any]:
    """Describe what becomes of the data on their way to the network, as JSON.

    Args:
        arguments: of the run.
        samples: of all data sets.
        data_config: by its content, since a name stays when a number in it changes.
    """
    return {
        "rows": samples.digest()[:_DIGITS],
        "pipeline": config_hash(data_config)[:_DIGITS],
        "prompt_style": arguments.prompt_style,
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
