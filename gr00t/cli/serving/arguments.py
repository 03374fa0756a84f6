"""The flags of the command that serves."""

from __future__ import annotations

import dataclasses
from typing import Literal

from gr00t.cli.serving.scope import DOCUMENT
from gr00t.cli.serving.wires import DEFAULT_WIRE
from gr00t.serving.limits import DEFAULT_MAX_BATCH


@dataclasses.dataclass(frozen=True)
class ServeArguments:
    """Serve GR00T N1.5 (--server), or ask a running server for one action (--client)."""

    server: bool = False
    """Load the model and serve it."""
    client: bool = False
    """Send one example observation to a server; print the shapes of its answer and how long it took."""
    http_server: bool = False
    """Speak HTTP with JSON (POST /act, GET /health) instead of ZeroMQ: the wire http in place of n1_5."""
    model_path: str | None = None
    """Checkpoint folder or model hub id. With --client, if the server does not tell the states' widths: a
    folder whose metadata does."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's; a policy of
    lerobot has its own)."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment, or a policy of lerobot's own)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on, or that a policy of lerobot began from."""
    scope: str = DOCUMENT
    """What is quantized: document, the document's layers unless variables say otherwise, or wide: vision,
    connector, adapter and DiT attention, too, at 8 bits; wide turns quantization on."""
    denoising_steps: int | None = None
    """Euler steps per action chunk; the checkpoint's own number if not given."""
    host: str = "localhost"
    """Address to listen on, or to connect to; 0.0.0.0 listens on every interface, :: on IPv6's, too."""
    port: int | None = None
    """TCP port (default: 5555; of vla-eval and openpi 8000)."""
    wire: tuple[str, ...] = (DEFAULT_WIRE,)
    """Whose clients are served, each at its port: n1_5 (NVIDIA's ZeroMQ), http (N1.5's), n1_6 (also N1.7),
    vla-eval, openpi. Several share the model, as in: --wire n1_5 vla-eval:8001 openpi, or with commas."""
    replan_steps: int = 8
    """How many actions of a chunk vla-eval executes before the policy is asked again."""
    api_token: str | None = None
    """Secret that requests must carry; without one, whoever reaches the port may use it."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of what is not quantized."""
    compile: bool = False
    """Let torch.compile fuse what is not quantized: slow first requests, faster ones after."""
    max_batch: int = DEFAULT_MAX_BATCH
    """How many observations may share a forward or come in one request; 1: others change not a single bit."""
    seed: int | None = None
    """Fixes the flow noise, with --server of all requests by their order, with --client of its one."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] as in NVIDIA's inference, or TEXT as in its training."""
