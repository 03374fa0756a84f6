"""The transforms between a robot's observation and the model's input, and back from its output to actions."""

from gr00t.data.transform.base import (
    ComposedModalityTransform,
    InvertibleModalityTransform,
    ModalityTransform,
)
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.state_action import (
    StateActionDropout,
    StateActionPerturbation,
    StateActionSinCosTransform,
    StateActionToTensor,
    StateActionTransform,
)
from gr00t.data.transform.video import (
    VideoColorJitter,
    VideoCrop,
    VideoGrayscale,
    VideoHorizontalFlip,
    VideoRandomGrayscale,
    VideoRandomPosterize,
    VideoRandomRotation,
    VideoResize,
    VideoToNumpy,
    VideoToTensor,
    VideoTransform,
)

__all__ = [
    "ComposedModalityTransform",
    "ConcatTransform",
    "InvertibleModalityTransform",
    "ModalityTransform",
    "StateActionDropout",
    "StateActionPerturbation",
    "StateActionSinCosTransform",
    "StateActionToTensor",
    "StateActionTransform",
    "VideoColorJitter",
    "VideoCrop",
    "VideoGrayscale",
    "VideoHorizontalFlip",
    "VideoRandomGrayscale",
    "VideoRandomPosterize",
    "VideoRandomRotation",
    "VideoResize",
    "VideoToNumpy",
    "VideoToTensor",
    "VideoTransform",
]
