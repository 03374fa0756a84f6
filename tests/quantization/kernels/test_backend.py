"""Who computes a layer: one object found by name, which is in no pack and in no hash."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch

from gr00t.quantization import DuQuantLinear
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.quantization.kernels import availability, build, choice, library, registry
from gr00t.quantization.kernels.backend import TorchKernel
from gr00t.quantization.kernels.library import NativeKernelError
from gr00t.quantization.settings.options import BACKENDS, TORCH, TRITON, Execution
from gr00t.quantization.settings.scheme import RuntimeOptions
from gr00t.quantization.settings.spec import LinearSpec
from tests.quantization.kernels.kernel_layers import inputs, linear

SPEC = LinearSpec(64, 32)


def test_who_computes_is_in_no_pack_and_no_hash(tmp_path, monkeypatch):
    """Made for integer execution by this machine's kernels, for fake execution, and without a compiler."""
    found = []
    for case, execution in enumerate((Execution.AUTO, Execution.FAKE, Execution.FAKE)):
        if case == 2:
            monkeypatch.setattr(library, "_library", None)
        folder = tmp_path / str(case)
        store = PackStore(folder)
        store.update("a", store.layer("a", linear(64, 32), SPEC).run_as(RuntimeOptions(execution)))
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert SIDECAR in files
        found.append((files, store.sha256))
    assert found[0] == found[1] == found[2]
    assert not [name for name in (*build.KERNELS["x86_64"], "execution") if name in str(found[0])]


@pytest.mark.parametrize("names", [("torch", "reference"), ("torch", "float32")])
def test_pytorchs_kernels_are_one_where_they_do_it_all(names):
    backend = registry.backend(*names)
    assert (backend.transformer, backend.accumulator) == names
    assert backend.around is backend.sums
    assert not backend.takes_packed


def test_a_compiled_kernel_is_asked_once_or_around_others_sums():
    whole, mixed = registry.backend("avx2", "avx2"), registry.backend("avx2", "float32")
    assert whole.around is whole.sums
    assert (whole.takes_packed, mixed.takes_packed) == (True, False)
    assert mixed.around is not mixed.sums
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert twin.around is twin.sums
    operands = DuQuantLinear.from_linear(linear(64, 32), SPEC).operands()
    with pytest.raises(NativeKernelError, match="'no such kernel' is not there: loaded are"):
        registry.backend("no such kernel", "float32").prologue(inputs(2, 64), operands)


def test_who_is_asked_for_by_name_computes_the_layer_to_the_same_bits(native_kernels):
    """Oracle: PyTorch's operations, asked for by name; each kernel is another implementation."""
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    layer, x = DuQuantLinear.from_linear(linear(64, 32), SPEC), inputs(21, 64)
    expected = layer.run_as(RuntimeOptions(backend=TORCH))(x)
    assert isinstance(layer.backend.sums, TorchKernel)
    assert layer.backend.accumulator_reason.endswith("; no compiled kernels: BACKEND=torch")
    assert layer.resident_bytes() > layer.run_as(RuntimeOptions()).resident_bytes()  # unpacked, and not
    for execution in Execution:
        for name in native_kernels:
            layer.run_as(RuntimeOptions(execution, backend=name))
            assert (layer.backend.accumulator, layer.backend.transformer) == (name, name)
            assert layer.backend.around is layer.backend.sums
            assert torch.equal(layer(x), expected), name
    moved = pickle.loads(pickle.dumps(layer)).to(torch.float64)
    assert moved.backend.accumulator == native_kernels[-1]


def test_who_is_not_here_is_refused_by_name(monkeypatch, native_kernels):
    layer = DuQuantLinear.from_linear(linear(64, 32), SPEC)
    elsewhere = "neon_dotprod" if "avx2" in native_kernels else "avx2"
    with pytest.raises(ValueError, match=rf"^BACKEND={elsewhere}: not here for cpu: there are torch, "):
        layer.run_as(RuntimeOptions(backend=elsewhere))
    with pytest.raises(ValueError, match=r"^BACKEND=avx2: not here for mps: there are torch \("):
        registry.choose_backend(torch.device("mps"), Execution.FAKE, "avx2")
    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_why_not", "no compiler")
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"for cpu: there are torch \(no compiler\)$"):
        layer.run_as(RuntimeOptions(backend="avx2"))
    integer = RuntimeOptions(Execution.INTEGER, backend=TORCH)
    monkeypatch.setattr(choice, "try_int8", lambda: (False, "wrong here"))
    with pytest.raises(ValueError, match=r"^EXECUTION=integer: wrong here; no compiled kernels: BACKEND"):
        layer.run_as(integer)


def test_a_refusal_says_why_the_kernel_is_not_here(monkeypatch, native_kernels):
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    loaded, name = library._library, native_kernels[0]

    def refused() -> str:
        with pytest.raises(
            ValueError, match=rf"^BACKEND={name}: not here for cpu: there are torch, "
        ) as raised:
            registry.choose_backend(torch.device("cpu"), Execution.FAKE, name)
        return str(raised.value).partition(" (")[2]

    others = {other: at for other, at in loaded.kernels.items() if other != name}
    monkeypatch.setattr(loaded, "kernels", others)
    assert refused() == "this processor lacks its instructions)"
    monkeypatch.setattr(loaded, "refusals", {name: "the system: EPERM"})
    assert refused() == "the system: EPERM)"
    monkeypatch.setattr(loaded, "refusals", {})
    monkeypatch.setattr(loaded, "compiled", set(others))
    assert refused() == "not compiled)"


def test_triton_is_refused_where_a_layer_stays_on_a_cpu(monkeypatch, native_kernels):
    """Not interpreted, as in a server. A layer is quantized on a CPU where a GPU may be its place."""
    launch = pytest.importorskip("gr00t.quantization.kernels.triton.launch", exc_type=ImportError)
    runtime = RuntimeOptions(backend=TRITON)
    layer = DuQuantLinear.from_linear(linear(64, 32), SPEC)
    monkeypatch.setattr(launch, "is_interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    there = ", ".join([TORCH, *library.loaded()])
    refusal = f"BACKEND=triton: not here for cpu: there are {there} (Triton's run on a GPU)"
    with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
        layer.run_as(runtime)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert layer.run_as(runtime).to("cpu").backend.accumulator == TRITON
    with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
        layer.check_backend()
    monkeypatch.setattr(launch, "is_interpreted", lambda: True)
    layer.check_backend()


def test_every_kernel_that_can_be_compiled_may_be_asked_for_by_name():
    compiled = {name for kernels in build.KERNELS.values() for name in kernels}
    assert set(BACKENDS) == {TORCH, TRITON, *compiled}


def test_the_operands_are_the_layers_and_their_codes_as_the_backend_wants_them(native_kernels):
    layer = DuQuantLinear.from_linear(linear(64, 32), SPEC)
    layer.backend = registry.backend("torch", "float32")
    unpacked = layer.operands()
    assert (unpacked.codes.shape, unpacked.codes.dtype) == ((32, 64), torch.int8)
    assert unpacked.block_scale is None
    layer.backend = registry.backend("portable", "portable")
    packed = layer.operands()
    assert packed.codes is layer.codes
    assert packed.block_scale is layer.block_scale
    assert packed.perm is layer.transforms.perm
    if native_kernels:
        q, _ = layer.backend.prologue(inputs(3, 64), packed)
        assert torch.equal(layer.backend.accumulate(q, packed), layer.backend.accumulate(q, unpacked))
