"""What a model computes on its way, recorded and compared."""

from __future__ import annotations

from contextlib import contextmanager

from torch import Tensor, nn


def assert_close(ours: Tensor, golden: Tensor, name: str, least: float = 2e-5) -> None:
    assert ours.shape == golden.shape, name
    worst = (ours - golden).abs().max().item()
    allowed = least + 2e-6 * golden.abs().max().item()
    assert worst <= allowed, f"{name}: off by {worst:.2e}, allowed {allowed:.2e}"


@contextmanager
def watching(outputs: dict[str, nn.Module], inputs: dict[str, tuple[nn.Module, int | str]] | None = None):
    """Record what the named modules return, and the named arguments of others, in the order of the calls."""
    seen: dict[str, list[Tensor]] = {name: [] for name in [*outputs, *(inputs or {})]}

    def leaves(name: str):
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            seen[name].append(output[0] if isinstance(output, tuple) else output)

        return hook

    def enters(name: str, argument: int | str):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            seen[name].append(args[argument] if isinstance(argument, int) else kwargs[argument])

        return hook

    handles = [module.register_forward_hook(leaves(name)) for name, module in outputs.items()]
    for name, (module, argument) in (inputs or {}).items():
        handles.append(module.register_forward_pre_hook(enters(name, argument), with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
