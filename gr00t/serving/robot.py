"""A robot's policy behind a socket and in front of it, under the import path of Isaac-GR00T N1.5."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

import gr00t
from gr00t.data.actions import check_actions
from gr00t.serving.batching import MAX_WAITING
from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.endpoints import BatchedEndpoint, Failure, PreparedRequest, RequestError, attempt
from gr00t.serving.limits import DEFAULT_MAX_BATCH
from gr00t.serving.server import BaseInferenceServer
from gr00t.serving.wires.outline import MAX_MESSAGE_BYTES

# How many dimensions a batch has; a single sample has one less.
_BATCHED_DIMENSIONS = {"video": 5, "state": 3}
_PACKAGES = ("torch", "transformers", "numpy", "pyzmq")


class ServedPolicy(Protocol):
    """What the server needs of a policy; `gr00t.model.policy.Gr00tPolicy` is one, and so is any N1.5 policy.

    A policy with `quantization_report() -> dict` gets the endpoint `get_quantization_report` as well. The
    option `seed` is passed on as `get_action(observations, seeds=...)`, only when a request carries it.
    """

    def get_action(self, observations: dict[str, Any]) -> dict[str, Any]:
        """Return per action key an array (H, A)."""

    def get_modality_config(self) -> dict[str, Any]:
        """Return a `ModalityConfig` per modality."""


@runtime_checkable
class BatchablePolicy(Protocol):
    """A policy that can answer the requests of several clients at once; others are asked one by one."""

    @property
    def can_batch(self) -> bool:
        """Whether it can at this moment."""

    def prepare(self, observations: dict[str, Any], **seeds: Any) -> PreparedRequest:
        """Do for one request all that comes before the network; raise for one that does not fit."""

    def get_actions(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """Return for every prepared request what `get_action` returns, in one forward."""


class RobotInferenceServer(BaseInferenceServer):
    """Serves a policy: `get_action`, `get_modality_config`, `get_server_info`, and `get_quantization_report`
    if it has one.
    """

    def __init__(
        self,
        model: ServedPolicy,
        host: str = "localhost",
        port: int = 5555,
        api_token: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_waiting: int = MAX_WAITING,
        max_batch: int = DEFAULT_MAX_BATCH,
        info: Mapping[str, Any] | None = None,
        beside: RobotInferenceServer | None = None,
    ) -> None:
        """Listen for requests to `model`, which must be complete; for the rest see `BaseInferenceServer`.

        Args:
            model: What is served.
            host: See `BaseInferenceServer`, also for the next four.
            port: TCP port.
            api_token: Secret that requests must carry.
            max_message_bytes: Longest message.
            max_waiting: How many requests may wait.
            max_batch: How many observations may share a forward, if the policy is a `BatchablePolicy`, and
                how many samples one request may have. With 1 a request's answer does not depend on who else
                asks, not in a single bit.
            info: What `get_server_info` says besides what the server knows itself.
            beside: Another server of `model`, in whatever language, whose computing thread this one shares:
                clients of both meet in one forward.

        Raises:
            ValueError: `max_batch` below 1; for others see `BaseInferenceServer`.
        """
        if max_batch < 1:
            raise RequestError(f"max_batch: expected at least 1, got {max_batch}")
        super().__init__(
            host,
            port,
            api_token,
            max_message_bytes=max_message_bytes,
            max_waiting=max_waiting,
            beside=beside,
        )
        self.model = model
        self.max_batch = max_batch
        self._info = dict(info or {})
        batched = batched_get_action(model, max_batch) if beside is None else beside.batched
        self.batched: BatchedEndpoint | None = batched
        self.is_batched = batched is not None and max_batch > 1
        self.register_endpoint("get_action", self._get_action, options=("seed",), batched=batched)
        self.register_endpoint(
            "get_modality_config", model.get_modality_config, requires_input=False, immediate=True
        )
        self.register_endpoint("get_server_info", self.info, requires_input=False, immediate=True)
        report = getattr(model, "quantization_report", None)
        if report is not None:
            self.register_endpoint("get_quantization_report", report, requires_input=False, immediate=True)

    @staticmethod
    def start_server(
        policy: ServedPolicy, port: int, api_token: str | None = None, host: str = "localhost"
    ) -> None:
        """Serve `policy` until it is killed."""
        RobotInferenceServer(policy, host=host, port=port, api_token=api_token).run()

    def info(self) -> dict[str, Any]:
        """Return what is served and how, as plain data.

        Returns:
            `batched` and `max_batch`; `batches`, how many forwards had how many requests so far; `waiting`,
            how many requests wait now; `abandoned`, how many were left out because their senders had gone;
            `connections`, how many clients are connected; `max_message_bytes`, how long a request may be;
            `versions` of what answers; and the `info` of the constructor.
        """
        return {
            **self._info,
            "max_batch": self.max_batch,
            "batched": self.is_batched,
            "batches": {str(size): count for size, count in sorted(self.worker.batch_sizes.copy().items())},
            "waiting": self.worker.waiting,
            "abandoned": self.worker.abandoned,
            "connections": self.connections.count,
            "max_message_bytes": self.max_message_bytes,
            "versions": _versions(),
        }

    def facts(self) -> dict[str, Any]:
        """Return what a harness keeps beside its results: what is served, and how it is quantized."""
        report = getattr(self.model, "quantization_report", None)
        return {
            "server": {**self._info, "max_batch": self.max_batch, "versions": _versions()},
            "quantization": {"enabled": False} if report is None else report(),
        }

    def _get_action(self, observations: Any, **options: Any) -> dict[str, Any]:
        answer = self.model.get_action(_checked(observations, self.max_batch), **_seeds(options))
        return check_actions(answer)


def batched_get_action(model: ServedPolicy, max_batch: int) -> BatchedEndpoint | None:
    """Return what answers the requests of several clients at once, or None for a policy that cannot."""
    return _BatchedGetAction(model, max_batch) if isinstance(model, BatchablePolicy) else None


class _BatchedGetAction:
    """`get_action` of a policy that answers several requests at once."""

    def __init__(self, policy: BatchablePolicy, max_batch: int) -> None:
        self._policy = policy
        self._max_batch = max_batch

    def limit(self) -> int:
        return self._max_batch if self._policy.can_batch else 1

    def prepare(self, data: Any, **options: Any) -> PreparedRequest:
        return self._policy.prepare(_checked(data, self._max_batch), **_seeds(options))

    def answer(self, requests: Sequence[Any]) -> list[dict[str, Any] | Failure]:
        # One by one: what is wrong with one of them is no fault of the others.
        return [attempt(partial(check_actions, actions)) for actions in self._policy.get_actions(requests)]


def _checked(observations: Any, max_batch: int) -> dict[str, Any]:
    """Return the observations if they are a map of no more samples than a forward may have.

    Raises:
        RequestError: they are not.
    """
    if not isinstance(observations, dict):
        raise RequestError(f"data: expected a map of observations, got {type(observations).__name__}")
    for key, value in observations.items():
        dimensions = _batched_dimensions(str(key))
        if dimensions is not None and _dimensions(value, dimensions) >= dimensions and len(value) > max_batch:
            raise RequestError(
                f"{key:.100}: a batch of {len(value)} samples; this server computes at most {max_batch} at "
                "once (--max-batch): send fewer in each request"
            )
    return observations


def _batched_dimensions(key: str) -> int | None:
    """How many dimensions a batch has under a key; None: it holds no array. lerobot's keys have no time."""
    if key.startswith("observation."):
        return 4 if key.startswith("observation.image") else 2
    return _BATCHED_DIMENSIONS.get(key.partition(".")[0])


def _dimensions(value: Any, enough: int) -> int:
    """Return how many dimensions an array has, or a list of lists; of a list no more than `enough`."""
    if isinstance(value, np.ndarray):
        return value.ndim
    count = 0
    while isinstance(value, list) and value and count < enough:
        count, value = count + 1, value[0]
    return count + (value.ndim if isinstance(value, np.ndarray) else 0)


def _seeds(options: dict[str, Any]) -> dict[str, Any]:
    """Return the option `seed` under the policy's name for it."""
    if "seed" not in options:
        return {}
    seed = options["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise RequestError(f"options: seed: expected an integer from 0 to 2^63 - 1, got {seed!r:.100}")
    return {"seeds": seed}


@functools.cache  # it takes milliseconds, and many may ask
def _versions() -> dict[str, str]:
    """Return the versions of Python, of this project and of what its numbers depend on."""
    versions = {"python": platform.python_version(), "gr00t": gr00t.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


class RobotInferenceClient(ExternalRobotInferenceClient):
    """`ExternalRobotInferenceClient` with the constructor of N1.5's class of this name."""

    def __init__(self, host: str = "localhost", port: int = 5555, api_token: str | None = None) -> None:
        """See `BaseInferenceClient`."""
        super().__init__(host=host, port=port, api_token=api_token)
