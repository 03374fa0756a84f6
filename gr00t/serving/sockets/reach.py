"""The way to a server, seen from its client: which of a name's addresses to take, and why none answers.

A name may have addresses of IPv4 and IPv6 while the server listens on one of them, and ZeroMQ would try the
wrong one in silence for ever.

This file runs inside the simulator's process: Python 3.8, nothing but the standard library.
"""

from __future__ import annotations

import socket as sockets

from gr00t.serving.sockets.address import UnknownHostError, find_addresses, name_address

_KNOCK_S = 0.25  # for each address of a name that has several
_ASK_S = 1.0
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"  # with which a ZeroMQ peer begins


def choose_address(host: str, port: int) -> str:
    """Return the address of `host` at which something listens, or its first one; IPv4 comes before IPv6.

    Raises:
        UnknownHostError: No such name, at this moment at least.
    """
    addresses = find_addresses(host)
    for address in addresses if len(addresses) > 1 else []:
        try:
            sockets.create_connection((address, port), _KNOCK_S).close()
        except OSError:
            continue
        return address
    return addresses[0]


def why_no_server(host: str, port: int) -> str:
    """Return why a ZeroMQ server cannot be reached there, found out by trying."""
    try:
        address = choose_address(host, port)
    except UnknownHostError as error:
        return str(error)
    where = name_address(address, port)
    try:
        with sockets.create_connection((address, port), _ASK_S) as peer:
            peer.settimeout(_ASK_S)
            peer.sendall(_SIGNATURE)
            begin = peer.recv(16)
    except ConnectionRefusedError:
        return f"nothing listens at {where}"
    except ConnectionError:
        begin = b""
    except sockets.timeout:
        return f"{where} does not answer: a wrong address, a firewall in between, or it is busy"
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    if begin.startswith(b"HTTP/"):
        return f"what listens at {where} speaks HTTP: start it without --http-server, or ask it over HTTP"
    if not begin.startswith(b"\xff"):
        return f"what listens at {where} does not speak ZeroMQ"
    return f"what listens at {where} speaks ZeroMQ, but did not end the handshake"
