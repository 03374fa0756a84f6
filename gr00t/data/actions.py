"""The last look at what a policy computed, before it moves a robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

Actions = TypeVar("Actions", bound=Mapping[str, Any])


class ActionError(ValueError):
    """What a policy computed is no action; the message names the key and the number."""


def check_actions(actions: Actions) -> Actions:
    """Return `actions`, per key an array, if every number in it is finite.

    Raises:
        ActionError: a number is infinite or none, with its key and place.
    """
    for key, value in actions.items():
        array = np.asarray(value) if isinstance(value, list | tuple | float) else value
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
            continue
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise ActionError(
                f"{key}: the policy computed {array[where]} at {list(where)}; {len(bad)} of {array.size} "
                "numbers are not finite and no action is sent"
            )
    return actions
