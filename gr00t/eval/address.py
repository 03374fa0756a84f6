"""Where a server may listen, found out before anything is loaded."""

from __future__ import annotations

import socket as sockets


class BindError(OSError):
    """The address cannot be listened on."""


def resolve_host(host: str) -> str:
    """Return the IPv4 address of `host`.

    Raises:
        BindError: No such name, no IPv4 address, or an empty name, which the system would take for `*`.
    """
    if host == "*":
        return "0.0.0.0"
    if not host:
        raise BindError("host: is empty; give a name or IPv4 address, or * for every interface")
    try:
        return sockets.gethostbyname(host)
    except (OSError, UnicodeError, TypeError) as error:
        raise BindError(
            f"host {host!r:.300}: not a name or IPv4 address that is known here: {error}"
        ) from None


def check_port_free(host: str, port: int) -> None:
    """Fail now if `port` could not be listened on later: loading a model takes minutes. Nothing is opened.

    Raises:
        BindError: The port is in use or not allowed, or the address not one of this machine.
    """
    address = resolve_host(host)
    if not 0 <= port <= 65535:
        raise BindError(f"port: expected 0 to 65535, got {port}")
    with sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM) as probe:
        # As the server does: the connections of a server that has just ended do not block its port.
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise bind_error(address, port, error.strerror or str(error)) from None


def bind_error(address: str, port: int, reason: str) -> BindError:
    """Return the error of an address that cannot be listened on, with what to do about it."""
    return BindError(
        f"cannot listen on tcp://{address}:{port}: {reason}; stop what listens there or choose another port"
    )
