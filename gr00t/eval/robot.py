"""A robot's policy behind a socket and in front of it, under the import path of Isaac-GR00T N1.5."""

from __future__ import annotations

from typing import Any, Protocol

from gr00t.eval.client import ExternalRobotInferenceClient
from gr00t.eval.server import MAX_MESSAGE_BYTES, BaseInferenceServer, RequestError


class ServedPolicy(Protocol):
    """What the server needs of a policy; `gr00t.model.policy.Gr00tPolicy` is one, and so is any N1.5 policy.

    A policy with `quantization_report() -> dict` gets the endpoint `get_quantization_report` as well. The
    option `seed` is passed on as `get_action(observations, seeds=...)`, only when a request carries it.
    """

    def get_action(self, observations: dict[str, Any]) -> dict[str, Any]:
        """Return per action key an array (H, D)."""

    def get_modality_config(self) -> dict[str, Any]:
        """Return a `ModalityConfig` per modality."""


class RobotInferenceServer(BaseInferenceServer):
    """Serves a policy: `get_action`, `get_modality_config`, and `get_quantization_report` if it has one."""

    def __init__(
        self,
        model: ServedPolicy,
        host: str = "localhost",
        port: int = 5555,
        api_token: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Listen for requests to `model`, which must be complete; for the rest see `BaseInferenceServer`."""
        super().__init__(host, port, api_token, max_message_bytes=max_message_bytes)
        self.model = model
        self.register_endpoint("get_action", self._get_action, options=("seed",))
        self.register_endpoint("get_modality_config", model.get_modality_config, requires_input=False)
        report = getattr(model, "quantization_report", None)
        if report is not None:
            self.register_endpoint("get_quantization_report", report, requires_input=False)

    @staticmethod
    def start_server(
        policy: ServedPolicy, port: int, api_token: str | None = None, host: str = "localhost"
    ) -> None:
        """Serve `policy` until it is killed."""
        RobotInferenceServer(policy, host=host, port=port, api_token=api_token).run()

    def _get_action(self, observations: Any, **options: Any) -> dict[str, Any]:
        if not isinstance(observations, dict):
            raise RequestError(f"data: expected a map of observations, got {type(observations).__name__}")
        if "seed" not in options:
            return self.model.get_action(observations)
        seed = options["seed"]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise RequestError(f"options: seed: expected an integer from 0 to 2^63 - 1, got {seed!r:.100}")
        return self.model.get_action(observations, seeds=seed)  # type: ignore[call-arg]


class RobotInferenceClient(ExternalRobotInferenceClient):
    """`ExternalRobotInferenceClient` with the constructor of N1.5's class of this name."""

    def __init__(self, host: str = "localhost", port: int = 5555, api_token: str | None = None) -> None:
        """See `BaseInferenceClient`."""
        super().__init__(host=host, port=port, api_token=api_token)
