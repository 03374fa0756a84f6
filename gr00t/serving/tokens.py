"""The secret that a request carries in its head."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def token_of(headers: Mapping[str, str], schemes: Collection[str] = ("bearer",)) -> bytes | None:
    """Return the token that headers carry, or None.

    Args:
        headers: By their names in small letters, decoded as Latin-1, or as ASCII with surrogate escapes.
        schemes: The first words of an `Authorization` that a token may follow, in small letters.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = token.strip() if scheme.lower() in schemes else headers.get("x-api-token")
    if sent is None:
        return None
    raw = sent.encode("latin1", "surrogateescape")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:  # some clients send headers as Latin-1, which Python's own does
        return raw.decode("latin1").encode("utf-8")
    return raw
