"""The parts of the architecture as frozen facts, each beside the rule by which it is read from JSON.

Keys that are absent take the default of the code that NVIDIA's checkpoints were made with (for vision and
language those of transformers). What dropout, initialisation and training settings say is not read: it
changes no inference.
"""

from __future__ import annotations

from dataclasses import dataclass

from gr00t.model.checkpoint.json_section import Section

_OUR_ACTIVATIONS = ("gelu-approximate", "gelu")


@dataclass(frozen=True)
class VisionConfig:
    """SigLIP vision transformer over square images."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_channels: int
    image_size: int
    patch_size: int
    layer_norm_eps: float
    activation: str

    @classmethod
    def from_json(cls, section: Section) -> VisionConfig:
        """Read `vision_config` of eagle_config.json."""
        section.one_of("model_type", ("siglip_vision_model",), "siglip_vision_model")
        return cls(
            hidden_size=section.integer("hidden_size", 768),
            intermediate_size=section.integer("intermediate_size", 3072),
            num_layers=section.integer("num_hidden_layers", 12),
            num_heads=section.integer("num_attention_heads", 12),
            num_channels=section.integer("num_channels", 3),
            image_size=section.integer("image_size", 224),
            patch_size=section.integer("patch_size", 16),
            layer_norm_eps=section.positive("layer_norm_eps", 1e-6),
            activation=section.one_of("hidden_act", ("gelu_pytorch_tanh", "gelu"), "gelu_pytorch_tanh"),
        )


@dataclass(frozen=True)
class LanguageConfig:
    """Qwen3 decoder, of which only the first `num_layers` layers exist."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    attention_bias: bool

    @classmethod
    def from_json(cls, section: Section, num_layers: int) -> LanguageConfig:
        """Read `text_config` of eagle_config.json; `num_layers` is the `select_layer` of config.json."""
        section.one_of("model_type", ("qwen3",), "qwen3")
        section.one_of("hidden_act", ("silu",), "silu")
        section.one_of("use_sliding_window", (False,), False)
        section.one_of("rope_scaling", (None,), None)
        # transformers 5 writes the rope settings as an object of their own.
        rope = section.section("rope_parameters") if section.values.get("rope_parameters") else section
        rope.one_of("rope_type", ("default",), "default")
        available = section.integer("num_hidden_layers", 32)
        if num_layers > available:
            raise section.error("num_hidden_layers", f"= {available}, but select_layer asks for {num_layers}")
        return cls(
            vocab_size=section.integer("vocab_size", 151936),
            hidden_size=section.integer("hidden_size", 4096),
            intermediate_size=section.integer("intermediate_size", 22016),
            num_layers=num_layers,
            num_heads=section.integer("num_attention_heads", 32),
            num_key_value_heads=section.integer("num_key_value_heads", 32),
            head_dim=section.integer("head_dim", 128),
            rms_norm_eps=section.positive("rms_norm_eps", 1e-6),
            rope_theta=rope.positive("rope_theta", 10000.0),
            attention_bias=section.flag("attention_bias", False),
        )


@dataclass(frozen=True)
class TransformerConfig:
    """A stack of our own blocks: the adapter's or the DiT's.

    `context_dim` is the width of what the DiT's cross-attention reads; `interleave` makes its odd blocks
    self-attention; with `text_every` n, every n-th of the others reads the prompt's text alone and the rest
    read its images alone, where None lets all read everything. The adapter has none of them, and alone an
    `input_norm`.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    activation: str
    attention_bias: bool
    mlp_norm_eps: float = 1e-5
    mlp_norm_affine: bool = True
    context_dim: int | None = None
    interleave: bool = False
    text_every: int | None = None
    input_norm: bool = True

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim

    @classmethod
    def adapter_from_json(cls, section: Section) -> TransformerConfig:
        """Read `vl_self_attention_cfg`. The reference fixes its norms: affine, eps 1e-5."""
        section.one_of("positional_embeddings", (None,), "sinusoidal")
        return cls(
            num_layers=section.integer("num_layers", 12, at_least=0),
            num_heads=section.integer("num_attention_heads", 8),
            head_dim=section.integer("attention_head_dim", 64),
            activation=section.one_of("activation_fn", _OUR_ACTIVATIONS, "gelu-approximate"),
            attention_bias=section.flag("attention_bias", True),
        )

    @classmethod
    def dit_from_json(cls, section: Section) -> TransformerConfig:
        """Read `diffusion_model_cfg` of the action head."""
        section.one_of("positional_embeddings", (None,), "sinusoidal")
        section.one_of("norm_type", ("ada_norm",), "ada_norm")
        num_heads = section.integer("num_attention_heads", 8)
        head_dim = section.integer("attention_head_dim", 64)
        wide = section.values.get("cross_attention_dim") is None
        return cls(
            num_layers=section.integer("num_layers", 12),
            num_heads=num_heads,
            head_dim=head_dim,
            activation=section.one_of("activation_fn", _OUR_ACTIVATIONS, "gelu-approximate"),
            attention_bias=section.flag("attention_bias", True),
            mlp_norm_eps=section.positive("norm_eps", 1e-5),
            mlp_norm_affine=section.flag("norm_elementwise_affine", False),
            context_dim=num_heads * head_dim if wide else section.integer("cross_attention_dim"),
            interleave=section.flag("interleave_self_attention", False),
        )


@dataclass(frozen=True)
class ActionHeadConfig:
    """The per-embodiment encoders and decoder around the DiT, and how the flow is integrated.

    `max_seq_len` is the number of learned action positions, None where the checkpoint has none;
    `state_history` the number of time steps of the state that make one token, None where each is a token.
    """

    dit: TransformerConfig
    hidden_size: int
    action_dim: int
    action_horizon: int
    max_state_dim: int
    num_embodiments: int
    num_future_tokens: int
    num_timestep_buckets: int
    num_inference_timesteps: int
    max_seq_len: int | None
    state_history: int | None = None

    @classmethod
    def from_json(cls, section: Section, context_dim: int) -> ActionHeadConfig:
        """Read `action_head_cfg` of config.json; `context_dim` is the width of what the DiT attends to."""
        stack = section.section("diffusion_model_cfg")
        dit = TransformerConfig.dit_from_json(stack)
        hidden_size = section.integer("hidden_size", 1024)
        horizon = section.integer("action_horizon")
        max_seq_len = section.integer("max_seq_len", 1024) if section.flag("add_pos_embed", True) else None
        stack.agrees("output_dim", hidden_size, "action_head_cfg.hidden_size, which the decoder reads,")
        if section.integer("input_embedding_dim", 1536) != dit.width:
            raise section.error("input_embedding_dim", f"must be {dit.width}, heads x head size of the DiT")
        if dit.context_dim != context_dim:
            raise stack.error(
                "cross_attention_dim", f"= {dit.context_dim}, but the backbone's width is {context_dim}"
            )
        if max_seq_len is not None and horizon > max_seq_len:
            raise section.error(
                "action_horizon", f"= {horizon} exceeds the {max_seq_len} positions of max_seq_len"
            )
        return cls(
            dit=dit,
            hidden_size=hidden_size,
            action_dim=section.integer("action_dim"),
            action_horizon=horizon,
            max_state_dim=section.integer("max_state_dim"),
            num_embodiments=section.integer("max_num_embodiments", 32),
            num_future_tokens=section.integer("num_target_vision_tokens", 32),
            num_timestep_buckets=section.integer("num_timestep_buckets", 1000),
            num_inference_timesteps=section.integer("num_inference_timesteps"),
            max_seq_len=max_seq_len,
        )
