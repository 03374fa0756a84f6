"""Which linear layers are quantized, by their names alone. Standard library only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class LayerFilter:
    """Takes layers by name; a `filter_fn` for `quantize_` and `plan` that can say why.

    Attributes:
        scope: prefix that a name must have.
        include: what a name must match; None: every name does.
        exclude: what a name must not match; None: no name does.
        layers: exact names; where there are some, nothing else counts.
    """

    scope: str = ""
    include: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None
    layers: Collection[str] = ()

    def __call__(self, module: object, name: str) -> bool:
        """Whether the layer of that name is taken, whatever it is."""
        return self.judge(name)[0]

    def judge(self, *names: str) -> tuple[bool, str]:
        """Say whether a layer is taken, and why.

        Args:
            names: of the layer in its model and, if it has one, in the checkpoint's format: scope and include
                are met by either, exclude by either, and layers may have either.
        """
        if self.layers:
            named = any(name in self.layers for name in names)
            return named, "named by LAYERS" if named else "not named by LAYERS"
        if not any(name.startswith(self.scope) for name in names):
            return False, f"outside SCOPE {self.scope!r}"
        if self.include is not None and not any(self.include.search(name) for name in names):
            return False, "INCLUDE does not match"
        for name, whose in zip(names, ("", " in the checkpoint's name"), strict=False):
            if self.exclude is not None and (found := self.exclude.search(name)):
                return False, f"EXCLUDE matches {found.group()!r}{whose}"
        return True, "INCLUDE matches" if self.include is not None else "every Linear is taken"
