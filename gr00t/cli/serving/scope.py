"""`--scope wide`: a name for variables, put beside those that the user has set. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from gr00t.cli.errors import UsageError
from gr00t.model.quantized_layers import BEYOND, SCOPES
from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig, settings_in, to_environ
from gr00t.spelling import did_you_mean

DOCUMENT = "document"


def scoped(environ: Mapping[str, str], scope: str) -> dict[str, str]:
    """Return `environ` with the variables of a scope, where the user's own do not say something else.

    Bits that the user gives by WBITS come before the scope's. EXCLUDE and SCOPE may leave layers of it out.

    Args:
        environ: usually `os.environ`.
        scope: `document`, which adds nothing, or `wide`.

    Raises:
        UsageError: there is no such scope, or a variable contradicts it.
        DuQuantConfigError: the user's variables are wrong.
    """
    if scope not in SCOPES:
        raise UsageError(
            f"--scope {scope}: {did_you_mean(scope, SCOPES)} (a prefix of layers' names is {PREFIX}SCOPE)"
        )
    if scope == DOCUMENT:
        return dict(environ)
    given = DuQuantConfig.given(environ)
    if given.get("enable") is False:
        raise UsageError(f"--scope {scope} asks to quantize, {PREFIX}ENABLE=0 not to: leave one of them out")
    own = {name: text for name, text in settings_in(environ).items() if text.strip()}
    for name in ("INCLUDE", "LAYERS"):
        if name in own and own[name] != SCOPES[scope].get(name):
            raise UsageError(
                f"--scope {scope} says which layers are taken, and so does {PREFIX}{name}: leave one of them "
                f"out (beside --scope, {PREFIX}EXCLUDE leaves layers out)"
            )
    settings = {**SCOPES[scope], **own}
    layer_filter = DuQuantConfig(**DuQuantConfig.given(to_environ(settings))).layer_filter
    # A rule for layers that none is left of would be refused as a mistake of the user's.
    rules = zip(BEYOND.values(), SCOPES[scope]["WBITS"].split(","), strict=True)
    kept = [rule for part, rule in rules if part.met_by(layer_filter) and part.rule not in _ruled(given)]
    settings["WBITS"] = ",".join(text for text in (own.get("WBITS"), *kept) if text)
    return to_environ(settings, environ)


def _ruled(given: Mapping[str, tuple[tuple[str, int | None], ...]]) -> set[str]:
    """The names in the user's WBITS."""
    return {name for name, _ in given.get("weight_bits_by_layer", ())}
