"""Where a server may listen and how it is reached from there, found out before anything is loaded."""

from __future__ import annotations

import ipaddress
import socket as sockets
from pathlib import Path
from typing import Any

# What Linux tells of the addresses of this machine; elsewhere they are not named.
_ROUTES, _IPV6 = Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")


class BindError(OSError):
    """The address cannot be listened on."""


class UnknownHostError(OSError):
    """A name that has no address, as far as is known here and now."""


def find_addresses(host: str) -> list[str]:
    """Return the addresses of a name, IPv4 before IPv6.

    Raises:
        UnknownHostError: It has none.
    """
    try:
        if "\0" in host:  # the system reads no further
            raise ValueError("a name with a zero byte")
        found = sockets.getaddrinfo(strip_brackets(host), None, type=sockets.SOCK_STREAM)
    except (OSError, ValueError, TypeError) as error:
        raise UnknownHostError(
            f"host {host!r:.300}: not a name or address that is known here: {error}"
        ) from None
    found.sort(key=lambda entry: entry[0] == sockets.AF_INET6)
    return list(dict.fromkeys(_written(entry[4]) for entry in found))


def resolve_host(host: str) -> str:
    """Return the address of `host`: of IPv4 where it has one.

    Raises:
        BindError: No such name, no address, or an empty name, which the system would take for `*`.
    """
    if host == "*":
        return "0.0.0.0"
    if not host:
        raise BindError("host: is empty; give a name or address, or * for every interface")
    try:
        return find_addresses(host)[0]
    except UnknownHostError as error:
        raise BindError(str(error)) from None


def _written(address: tuple[Any, ...]) -> str:
    """Return the address of a socket as text; a link-local one is nothing without its interface."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])


def strip_brackets(host: str) -> str:
    """Return an IPv6 address without the brackets that it has in front of a port."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def name_address(address: str, port: int) -> str:
    """Return address and port as they are written together."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def family_of(address: str) -> sockets.AddressFamily:
    """Return the family of sockets for an address."""
    return sockets.AF_INET6 if ":" in address else sockets.AF_INET


def is_loopback(address: str) -> bool:
    """Return whether an address leads to this machine alone; so do those of IPv4 written as of IPv6."""
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def describe_reach(address: str) -> str:
    """Return from where a server that listens on `address` can be reached, and which flag changes it."""
    if is_loopback(address):
        return "reachable from this machine only; --host 0.0.0.0 for robots elsewhere"
    if not ipaddress.ip_address(address).is_unspecified:
        return f"reachable from other machines at {address} only; --host localhost for this machine only"
    others = [other for other in addresses_here() if ":" not in other or ":" in address]
    named = f", at {', '.join(others)}" if others else ""
    return f"reachable from other machines{named}; --host localhost for this machine only"


def addresses_here() -> list[str]:
    """Return the addresses of this machine that others may reach it by, as far as the system tells them."""
    found = []
    if _ROUTES.is_file():
        last = ""
        for line in _ROUTES.read_text().splitlines():
            words = line.split()
            if words and words[-2:] == ["host", "LOCAL"]:
                found.append(last)
            elif len(words) > 1 and words[0] == "|--":
                last = words[1]
    if _IPV6.is_file():
        for line in _IPV6.read_text().splitlines():
            digits = line.split()[0]
            found.append(":".join(digits[at : at + 4] for at in range(0, 32, 4)))
    parsed = [ipaddress.ip_address(address) for address in dict.fromkeys(found)]
    return [str(address) for address in parsed if not (address.is_loopback or address.is_link_local)]


def check_port_free(host: str, port: int) -> None:
    """Fail now if `port` could not be listened on later: loading a model takes minutes. Nothing is opened.

    Raises:
        BindError: The port is in use or not allowed, or the address not one of this machine.
    """
    address = resolve_host(host)
    if not 0 <= port <= 65535:
        raise BindError(f"port: expected 0 to 65535, got {port}")
    with sockets.socket(family_of(address), sockets.SOCK_STREAM) as probe:
        # As the server does: the connections of a server that has just ended do not block its port.
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise bind_error(address, port, error.strerror or str(error)) from None


def bind_error(address: str, port: int, reason: str) -> BindError:
    """Return the error of an address that cannot be listened on, with what to do about it."""
    return BindError(
        f"cannot listen on tcp://{name_address(address, port)}: {reason}; stop what listens there or choose "
        "another port"
    )
