"""The server's side of all its connections: accepting, reading, writing, and knowing who has gone.

Nobody can make this hold more than he may. What is held of unfinished messages, of messages not yet looked at
and of replies not yet taken is bounded for one connection (sockets.zmtp) and over all of them: when it is
too much, whoever has kept the rest waiting for longest is hung up on. A peer that does not take its replies
is not read from until it does. When there are as many connections as file descriptors allow, the one that has
been silent for longest makes room: a client that is alive connects again, and a robot in use is never silent
for longest among those who only hold a door open. A peer that says no more but still listens gets what it is
owed.

Nothing that one peer does raises from `poll` or `send`: it costs this peer its connection.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import selectors
import socket as sockets
import time
from collections.abc import Callable
from functools import partial

from gr00t.serving.endpoints import Failure, attempt
from gr00t.serving.sockets.address import bind_error, family_of, name_address
from gr00t.serving.sockets.connection import Connection, Conversation
from gr00t.serving.sockets.rate_limited_log import RateLimitedLog
from gr00t.serving.sockets.zmtp import PeerError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
# Sixteen clients that send sixteen samples of two 640 x 480 frames at the same moment.
MAX_HELD_BYTES = 512 * 1024 * 1024
_FILES_FOR_OTHERS = 64  # file descriptors that the rest of the program needs
_CHUNK_BYTES = 256 * 1024  # of a long message
_SHORT_CHUNK_BYTES = 128  # of what may be dozens of messages, each of which has to be found and kept
_POLL_S = 0.02  # for reading; then who has waited is looked at again
_HANDSHAKE_S = 10.0
_LISTEN_AGAIN_S = 1.0
_LAST_READS = 16  # of what a peer had sent when it was told why it is hung up on
_BACKLOG = 4096  # peers that the system lets knock before it turns others away, of which a second is lost
_ACCEPTED_AT_A_TIME = 128
# A peer whose cable was cut is noticed after a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class Connections:
    """A listening socket and the connections that came in by it."""

    def __init__(
        self,
        address: str,
        port: int,
        converse: Callable[[], Conversation],
        *,
        scheme: str = "tcp",
        max_connections: int = MAX_CONNECTIONS,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """Listen.

        Args:
            address: Address of this machine; 0.0.0.0 for all of IPv4, :: for all.
            port: TCP port; 0 lets the system choose one.
            converse: Begins the conversation with a new peer.
            scheme: How `address` begins.
            max_connections: So many peers at a time, or fewer if the program may open fewer files.
            max_held_bytes: So much is held for all peers together.

        Raises:
            BindError: The address is in use, or not one of this machine.
        """
        self._converse = converse
        self._max_held = max_held_bytes
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            files = max_connections + _FILES_FOR_OTHERS
        self.max_connections = max(8, min(max_connections, files - _FILES_FOR_OTHERS))
        self.hung_up = 0
        self._held = 0
        self._open: dict[int, Connection] = {}
        self._listen_again: float | None = None
        self._next_look = 0.0
        self._strangers, self._surprises = RateLimitedLog(logger), RateLimitedLog(logger)
        self._listener = sockets.socket(family_of(address), sockets.SOCK_STREAM)
        try:
            if self._listener.family == sockets.AF_INET6:
                self._listener.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 0)
            self._listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            self._listener.bind((address, port))
            self._listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            self._listener.close()
            raise bind_error(address, port, getattr(error, "strerror", None) or str(error)) from None
        self._listener.setblocking(False)
        self.address = f"{scheme}://{name_address(*self._listener.getsockname()[:2])}"
        # Bytes on this pair end a `poll` that waits: another thread has a reply ready.
        self._wake_up, self._awake = sockets.socketpair()
        self._wake_up.setblocking(False)
        self._awake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._awake, selectors.EVENT_READ)

    @property
    def count(self) -> int:
        """How many peers are connected."""
        return len(self._open)

    @property
    def held(self) -> int:
        """How many bytes are held for all peers."""
        return self._held

    def wake(self) -> None:
        """End a `poll` that waits; any thread may call this."""
        with contextlib.suppress(BlockingIOError):  # so many bytes wake it as well as one more would
            self._wake_up.send(b"\0")

    def poll(self, timeout_s: float) -> list[Connection]:
        """Wait until something happens; return the connections whose inboxes should now be gone through.

        Each is returned once; it is returned again some time after `resume`.
        """
        self._look_around()
        peers: list[tuple[Connection, int]] = []
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._awake:
                with contextlib.suppress(BlockingIOError):
                    self._awake.recv(4096)
            else:
                peers.append((key.data, events))
        # Who is not reached is reported again by the next `select`.
        peers.sort(key=lambda peer: peer[0].rank())
        fuller = []
        now = time.monotonic()
        until = now + _POLL_S
        for connection, events in peers:
            if connection.is_gone:  # it has just made room for another
                continue
            self._border(connection, partial(self._serve, connection, events))
            if connection.inbox and not (connection.is_looked_at or connection.is_clogged):
                connection.is_looked_at = True
                fuller.append(connection)
            began, now = now, time.monotonic()
            connection.spent += now - began
            if now >= until:
                break
        # One that was read first may have been hung up on when a later one held too much.
        return [connection for connection in fuller if not connection.is_gone]

    def send(self, connection: Connection, parts: list[bytes]) -> None:
        """Send a message, or as much of it as the peer takes now; the rest follows when it takes more."""
        if not connection.is_gone:
            self._border(connection, partial(self._reply, connection, parts))

    def send_all(self, parts: list[bytes]) -> None:
        """Send a message to every peer that has shown that it speaks the protocol."""
        for connection in list(self._open.values()):
            if connection.conversation.is_open:
                self.send(connection, parts)

    def resume(self, connection: Connection) -> None:
        """Go on with a connection whose inbox nobody goes through any more."""
        connection.is_looked_at = False
        if not connection.is_gone:
            self._border(connection, partial(self._update, connection))

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        if connection.is_gone:
            return
        connection.is_gone = True
        self._held -= connection.held
        connection.inbox.clear()
        connection.untaken.clear()
        del self._open[connection.socket.fileno()]
        if connection.events:
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def close(self, linger_s: float) -> None:
        """Stop listening; replies under way get `linger_s` seconds to leave."""
        deadline = time.monotonic() + linger_s
        if self._listener.fileno() in self._selector.get_map():
            self._selector.unregister(self._listener)
        self._listener.close()
        while (left := deadline - time.monotonic()) > 0:
            waiting = [connection for connection in self._open.values() if connection.untaken]
            if not waiting:
                break
            for connection in waiting:
                self._border(connection, partial(self._write, connection))
            time.sleep(min(0.01, left))
        for connection in list(self._open.values()):
            self.drop(connection)
        self._selector.close()
        self._wake_up.close()
        self._awake.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_A_TIME):
            try:
                socket, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest(error)
                    return
                continue  # the peer was gone before it was let in
            if len(self._open) >= self.max_connections and not self._make_room():
                socket.close()
                continue
            connection = Connection(socket, address, self._converse())
            self._open[socket.fileno()] = connection
            self._border(connection, partial(self._welcome, connection))

    def _welcome(self, connection: Connection) -> None:
        socket = connection.socket
        socket.setblocking(False)
        socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(sockets, name):  # Linux has all of them
                socket.setsockopt(sockets.IPPROTO_TCP, getattr(sockets, name), value)
        self._say(connection)

    def _rest(self, error: OSError) -> None:
        """Make room, or else accept nobody for a moment: else the waiting one would end every `poll`."""
        self._strangers.log(logging.WARNING, "cannot accept a connection: %s", error.strerror)
        if not self._make_room():
            self._selector.unregister(self._listener)
            self._listen_again = time.monotonic() + _LISTEN_AGAIN_S

    def _make_room(self) -> bool:
        """Hang up on whoever is not in the middle of a request and has been silent for longest."""
        idle = [connection for connection in self._open.values() if not connection.pending]
        if not idle:
            return False
        silent = min(idle, key=lambda connection: (connection.conversation.is_open, connection.last_heard))
        self._hang_up(silent, f"{len(self._open)} connections are open, and it was silent for longest")
        return True

    def _look_around(self) -> None:
        """Do what time alone brings about, twice a second."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 0.5
        if self._listen_again is not None and now >= self._listen_again:
            self._listen_again = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in list(self._open.values()):
            connection.spent /= 2
            if connection.is_finished:
                self._border(connection, partial(_check_alive, connection))
            if not connection.conversation.is_open and now - connection.began > _HANDSHAKE_S:
                self._hang_up(connection, f"no handshake within {_HANDSHAKE_S:g} seconds")

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._write(connection)
        if not events & selectors.EVENT_READ or not connection.events & selectors.EVENT_READ:
            return
        try:
            # Of a long message no more than itself: behind it there may be thousands of short ones.
            size = max(connection.conversation.expected, _SHORT_CHUNK_BYTES)
            data = connection.socket.recv(min(size, _CHUNK_BYTES))
        except BlockingIOError:
            return
        if not data:
            self._finish(connection)
            return
        connection.last_heard = time.monotonic()
        connection.inbox.extend(connection.conversation.receive(data))
        connection.is_finished = connection.conversation.is_over
        if connection.inbox:
            connection.holds_since = connection.last_heard
        self._say(connection)
        if connection.is_finished and not connection.conversation.may_listen_on:
            raise ConnectionResetError  # what it asked for need not be computed
        self._bound()

    def _finish(self, connection: Connection) -> None:
        """Part with a peer that says no more, unless it only closed this direction and waits for an answer.

        Only a byte tells: whoever has closed altogether answers it with a reset. Every reply begins with the
        same one, that of a part that others follow, so it can be sent before the reply is known.
        """
        connection.is_finished = True
        if not connection.conversation.may_listen_on:
            raise ConnectionResetError
        if connection.pending:
            connection.is_begun = True
            connection.untaken += connection.conversation.first_of_reply
        self._write(connection)
        _check_alive(connection)

    def _reply(self, connection: Connection, parts: list[bytes]) -> None:
        reply = connection.conversation.reply(parts)
        begun = len(connection.conversation.first_of_reply) if connection.is_begun else 0
        connection.untaken += reply[begun:]
        connection.is_begun = False
        connection.is_finished = connection.is_finished or connection.conversation.is_over
        self._write(connection)

    def _say(self, connection: Connection) -> None:
        """Send what the protocol itself has to say."""
        connection.untaken += connection.conversation.replies
        connection.conversation.replies.clear()
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            while connection.untaken:
                del connection.untaken[: connection.socket.send(connection.untaken[:_CHUNK_BYTES])]
        self._update(connection)

    def _update(self, connection: Connection) -> None:
        """Take note of what is held for a connection now, and of what it is to be asked for."""
        holding = connection.holding()
        if not connection.held:
            connection.holds_since = time.monotonic()
        self._held += holding - connection.held
        connection.held = holding
        if connection.is_over:
            raise ConnectionResetError
        events = connection.wanted()
        if events == connection.events:
            return
        if not connection.events:
            self._selector.register(connection.socket, events, connection)
        elif events:
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.unregister(connection.socket)
        connection.events = events

    def _bound(self) -> None:
        """Hang up on whoever has held most others up for longest while too much is held."""
        while self._held > self._max_held:
            holder = min(
                (connection for connection in self._open.values() if connection.held),
                key=lambda connection: connection.holds_since,
            )
            self._hang_up(holder, f"{self._held} bytes are held for all peers, its {holder.held} for longest")

    def _border(self, connection: Connection, step: Callable[[], None]) -> None:
        """Take a step for a peer; if it is gone or broke the rules, part with it."""
        done = attempt(step)
        if not isinstance(done, Failure):
            return
        if isinstance(done.error, PeerError):
            self._hang_up(connection, str(done.error), done.error.farewell)
            return
        if not isinstance(done.error, OSError):
            self._surprises.log(
                logging.ERROR, "the connection of %s failed", connection.name, exc_info=done.error
            )
        self.drop(connection)

    def _hang_up(self, connection: Connection, why: str, farewell: bytes = b"") -> None:
        self.hung_up += 1
        self._strangers.log(logging.WARNING, "hung up on %s: %.300s", connection.name, why)
        if farewell:
            with contextlib.suppress(OSError):
                _part_with(connection.socket, farewell)
        self.drop(connection)


def _part_with(socket: sockets.socket, farewell: bytes) -> None:
    """Send what is to be said last; what the peer had sent is read, or its system would throw this away."""
    socket.send(farewell)
    socket.shutdown(sockets.SHUT_WR)
    for _ in range(_LAST_READS):
        if not socket.recv(_CHUNK_BYTES):
            break


def _check_alive(connection: Connection) -> None:
    """Raise if the peer has answered what was sent to it with a reset; it is not read from any more."""
    if connection.socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_ERROR):
        raise ConnectionResetError
