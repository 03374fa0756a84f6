"""vla-eval's wire (0.8.0): episodes that begin and end, and one action for every observation.

The server keeps the chunk of each connection: of the H actions that the policy computes, the first
`replan_steps` are handed out one by one, and what is observed meanwhile is not even decoded. An episode
begins with an empty chunk.

Exactly one message answers an OBSERVATION, and none an EPISODE_START or EPISODE_END, whatever goes wrong: the
client would take an answer too many for that of its next question, and be one step late from then on.

The flow noise follows from the episode, by the rule of this project's own runner: two servers meet the same.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.serving.endpoints import RequestError
from gr00t.serving.harnesses.libero import ReplyError, noise_seed
from gr00t.serving.harnesses.messages import HarnessObservation, fields_in, read_field
from gr00t.serving.harnesses.robots import Robot, robot_of
from gr00t.serving.robot import ServedPolicy
from gr00t.serving.websocket.server import WebSocketServer
from gr00t.serving.websocket.session import Ask, Reply, Session, WebSocketMessage, last_words
from gr00t.serving.wires import n1_5
from gr00t.serving.wires.array_maps import encode_vla_eval, read_vla_eval
from gr00t.serving.wires.outline import Span, kind_of, text_bytes

HARNESS_VERSION = "0.8.0"
PROTOCOL_VERSION = 1
MODEL_SERVER = "gr00t-duquant"
DEFAULT_REPLAN_STEPS = 8
_FIELDS = ("type", "payload", "seq", "timestamp")
_MAX_TEXT = 500
_INVALID_DATA = 1007


class VlaEvalSession:
    """vla-eval's side of one connection; see `gr00t.serving.websocket.session.Session`."""

    greeting: bytes | None = None

    def __init__(
        self, robot: Robot, hello: Callable[[], Mapping[str, Any]], replan_steps: int, seed: int
    ) -> None:
        """Begin.

        Args:
            robot: Whose observations come.
            hello: Returns what HELLO is answered with.
            replan_steps: So many actions of a chunk are executed.
            seed: What the noise of all episodes follows from, besides themselves.
        """
        self._robot = robot
        self._hello = hello
        self._replan_steps = replan_steps
        self._seed = seed
        self._benchmark = ""
        self._chunk: collections.deque[NDArray[np.float32]] = collections.deque()
        self._episode: tuple[str, int | str, int] | None = None
        self._queries = 0
        self._trouble: str | None = None  # why the episode could not begin
        self._asked: int | None = None  # number of the OBSERVATION that is owed an answer

    def take(self, message: WebSocketMessage) -> Generator[None, None, Ask | Reply | None]:
        """Take a message.

        Raises:
            RequestError: It is not one of these.
            WireError: It cannot be decoded.
        """
        self._asked = None
        fields = yield from fields_in(message)
        payload = message.parts[0]
        for name in _FIELDS:
            if name not in fields:
                raise RequestError(f"no {name!r} in the message")
        number = _number(payload, fields["seq"])
        kind = text_bytes(payload, fields["type"])
        content = fields["payload"]
        if kind == b"observation":
            self._asked = number
            return self._observation(payload, content)
        if kind == b"hello":
            return self._hello_back(read_field(payload, "payload", content, read_vla_eval), number)
        if kind == b"episode_start":
            self._begin_episode(payload, content)
        elif kind == b"episode_end":
            self._chunk.clear()
            self._episode = None
        elif kind != b"error":
            raise RequestError(f"type: {kind!r:.60} is none that a benchmark sends")
        return None

    def answer(self, result: dict[str, Any]) -> Reply:
        """Keep the chunk; return its first action.

        Raises:
            ReplyError: The chunk is shorter than what is to be executed of it.
        """
        actions = self._robot.actions(result)
        if len(actions) < self._replan_steps:
            raise ReplyError(
                f"--replan-steps {self._replan_steps}: the policy answers with chunks of {len(actions)} "
                "actions only"
            )
        self._chunk.extend(actions[: self._replan_steps])
        return self._next_action()

    def tell(self, error: str) -> Reply:
        """Return an ERROR where an answer is owed; else no message, only the end."""
        if self._asked is None:
            return last_words(_INVALID_DATA, error)
        return _reply("error", {"error": error}, self._asked)

    def _observation(self, payload: bytes, at: Span) -> Ask | Reply:
        if self._trouble is not None:
            raise RequestError(f"episode_start: {self._trouble}")
        if self._chunk:
            return self._next_action()
        if (kind := kind_of(payload[at.begin])) != "dict":
            raise RequestError(f"payload: expected a map, got {kind}")
        part = memoryview(payload)[at.begin : at.end]
        translate = partial(self._robot.from_vla_eval, benchmark=self._benchmark)
        options = {}
        if self._episode is not None:
            options["seed"] = noise_seed(self._seed, *self._episode, self._queries)
        self._queries += 1
        return Ask(HarnessObservation(part, read_vla_eval, translate), options)

    def _next_action(self) -> Reply:
        assert self._asked is not None
        return _reply("action", {"actions": self._chunk.popleft()}, self._asked)

    def _hello_back(self, told: Any, number: int) -> Reply:
        benchmark = told.get("benchmark") if isinstance(told, dict) else None
        self._benchmark = benchmark[:_MAX_TEXT] if isinstance(benchmark, str) else ""
        return _reply("hello", self._hello(), number)

    def _begin_episode(self, payload: bytes, at: Span) -> None:
        self._chunk.clear()
        self._queries = 0
        self._episode, self._trouble = None, None
        try:
            told = read_field(payload, "payload", at, read_vla_eval)
            self._episode = _episode(told, self._benchmark)
        except ValueError as error:
            self._trouble = str(error)[:_MAX_TEXT]


class VlaEvalServer(WebSocketServer):
    """Serves a policy to vla-eval's benchmarks; for the other arguments see `WebSocketServer`.

    Args:
        replan_steps: So many actions of a chunk are executed before the policy is asked again.
        seed: What the flow noise of every episode follows from, besides the episode itself.
    """

    def __init__(
        self,
        model: ServedPolicy,
        *args: Any,
        replan_steps: int = DEFAULT_REPLAN_STEPS,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        modalities = model.get_modality_config()
        self._robot = robot_of(modalities)
        horizon = len(modalities["action"].delta_indices)
        if not 1 <= replan_steps <= horizon:
            raise RequestError(
                f"replan_steps: expected 1 to {horizon}, which is how many actions a chunk of this policy "
                f"has, got {replan_steps}"
            )
        super().__init__(model, *args, **kwargs)
        self._replan_steps = replan_steps
        self._seed = seed

    def new_session(self) -> Session:
        """Begin to talk with a new benchmark."""
        return VlaEvalSession(self._robot, self._hello, self._replan_steps, self._seed)

    def _hello(self) -> dict[str, Any]:
        """Return what a benchmark is told; it keeps all of it beside its results."""
        return {
            "harness_version": HARNESS_VERSION,
            "protocol_version": PROTOCOL_VERSION,
            "model_server": MODEL_SERVER,
            "capabilities": {},
            "observation_params": self._robot.observation_params,
            "action_spec": self._robot.action_spec,
            "observation_spec": self._robot.observation_spec,
            **self.facts(),
            "replan_steps": self._replan_steps,
            "noise_seed": self._seed,
        }


def _reply(kind: str, content: Mapping[str, Any], number: int) -> Reply:
    message = {"type": kind, "payload": dict(content), "seq": number, "timestamp": time.time()}
    return [b"binary", n1_5.pack(message, encode_vla_eval)]


def _number(payload: bytes, at: Span) -> int:
    number = n1_5.decode(payload[at.begin : at.end]) if kind_of(payload[at.begin]) == "int" else None
    if type(number) is not int:
        raise RequestError(f"seq: expected a whole number, got {kind_of(payload[at.begin])}")
    return number


def _episode(told: Any, benchmark: str) -> tuple[str, int | str, int] | None:
    """Return what an episode's noise follows from: suite, task, initial state; None if that is not told.

    Raises:
        RequestError: what is told has no sense.
    """
    task = told.get("task") if isinstance(told, dict) else None
    if not isinstance(task, dict):
        raise RequestError(f"payload: expected a map with a map under 'task', got {told!r:.100}")
    # What a benchmark leaves open it leaves out, or says None.
    given = {key: value for key, value in task.items() if value is not None}
    suite = given.get("suite", benchmark)
    name = given.get("task_id", given.get("name"))
    state = given.get("episode_idx", 0)
    if name is None:
        return None
    if not (isinstance(suite, str) and isinstance(name, (int, str)) and type(state) is int):
        raise RequestError(f"task: suite {suite!r:.60}, task_id {name!r:.60}, episode_idx {state!r:.60}")
    return suite, name, state
