"""NVIDIA's service as recorded: its messages, a policy that answers as it did, and the documented command."""

from __future__ import annotations

from typing import Any

from gr00t.data.dataset import ModalityConfig
from gr00t.serving.wires import n1_5 as wire
from tests.shell import REPO as ROOT

SCRIPT = ROOT / "scripts" / "inference_service.py"
DOCUMENTED = (
    "--model_path PATH_OR_HUB_ID --server --data_config examples.Libero.custom_data_config:LiberoDataConfig "
    "--denoising-steps 8 --port 5555 --embodiment-tag new_embodiment"
)

FOLDER = ROOT / "tests" / "golden" / "wire"
TOKEN = "secret"

STATE = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
MODALITY_CONFIG = {
    "video": ModalityConfig(delta_indices=[0], modality_keys=["video.image", "video.wrist_image"]),
    "state": ModalityConfig(delta_indices=[0], modality_keys=[f"state.{key}" for key in STATE]),
    "action": ModalityConfig(delta_indices=list(range(16)), modality_keys=[f"action.{key}" for key in STATE]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.human.action.task_description"]),
}


def recorded(name: str) -> bytes:
    """Return the bytes of one recorded message."""
    return (FOLDER / f"{name}.bin").read_bytes()


def small_observation() -> dict[str, Any]:
    """Return the observation of the recorded small request: two 8 x 8 frames, float64 state, one text."""
    return wire.unpack(recorded("req_get_action_small"))["data"]


class RecordedPolicy:
    """Returns the recorded action whatever it sees, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, Any]:
        self.seen.append((observations, options))
        return wire.unpack(recorded("resp_get_action"))

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        return MODALITY_CONFIG

    def quantization_report(self) -> dict[str, Any]:
        return {"enabled": False}
