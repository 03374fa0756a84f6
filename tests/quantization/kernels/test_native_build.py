"""Compiling and choosing the CPU kernels: once, whole, and with a reason where there are none.

The compilers here are shell scripts that write down how they were called, but for the one of the machine.
"""

from __future__ import annotations

import logging
import os
import platform
import stat
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from gr00t.quantization import DuQuantLinear, LinearSpec
from gr00t.quantization.kernels import build, choice, library
from gr00t.quantization.kernels.choice import choose_accumulator, choose_transforms
from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.settings.options import Execution
from gr00t.quantization.settings.scheme import RuntimeOptions
from tests.quantization.kernels.kernel_layers import no_operands

CPU = torch.device("cpu")


@pytest.fixture
def x86(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def compiler(folder: Path, body: str = "", version: str = "1.0") -> dict[str, str]:
    """An environment whose compiler runs `body` ($out is the file to write, $* the arguments)."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "fake-c++"
    script.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && {{ echo {version}; exit; }}
echo "$*" >> {folder}/calls
for word; do [ "$last" = -o ] && out=$word; last=$word; done
{body}
echo made > "$out"
"""
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"CXX": str(script), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(folder / "cache")}


def build_library(environ: dict[str, str]) -> Path:
    """Where the library is, or was."""
    with build.compiled_library(environ) as path:
        assert path.is_file()
        return path


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_it_is_compiled_once_and_anew_when_the_compiler_changes(tmp_path, x86):
    environ = compiler(tmp_path)
    path = build_library(environ)
    assert path.read_text() == "made\n"
    assert path.is_relative_to(tmp_path / "cache" / "gr00t-duquant" / "kernels")
    assert [*path.parent.iterdir()] == [path]
    known = len(calls(tmp_path))
    assert known == 6  # OpenMP?, four instruction sets, the library
    assert build_library(environ) == path
    assert len(calls(tmp_path)) == known
    assert build_library(compiler(tmp_path, version="2.0")) != path


def test_several_may_compile_at_once(tmp_path, x86):
    environ = compiler(tmp_path, body='echo half > "$out"; sleep 0.1')
    seen: list[str] = []

    def start() -> None:
        seen.append(build_library(environ).read_text())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["made\n"] * 4
    folder = build_library(environ).parent
    assert len([*folder.iterdir()]) == 1


def test_an_instruction_set_that_the_compiler_does_not_know_is_left_out_and_said_once(tmp_path, x86, caplog):
    said = "In file x\nx.cpp:1: error: unrecognized option"
    body = f'case "$*" in *-mavx512vnni*) echo "{said}" >&2; exit 1;; esac'
    build_library(compiler(tmp_path, body=body))
    assert "-DKERNELS=X(avx2) X(portable)" in calls(tmp_path)[-1]
    expected = [
        f"[GR00T-DUQUANT] CPU kernel {name} is left out: x.cpp:1: error: unrecognized option"
        for name in ("amx_int8", "avx512_vnni")
    ]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == expected
    build_library(compiler(tmp_path, body=body))
    assert len(caplog.records) == len(expected)


def test_without_openmp_it_is_compiled_for_one_thread(tmp_path, x86):
    build_library(compiler(tmp_path, body='case "$*" in *-fopenmp*) exit 1;; esac'))
    assert "-fopenmp" not in calls(tmp_path)[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CXX": "no-such-compiler"}, r"no C\+\+ compiler was found \(CXX=no-such-compiler\); on Debian"),
        ({"CXX": "", "PATH": ""}, r"no C\+\+ compiler was found \(c\+\+, g\+\+, clang\+\+\); on Debian"),
        (
            {"XDG_CACHE_HOME": "FILE"},
            "they can be written nowhere .* set XDG_CACHE_HOME or",
        ),
    ],
)
def test_why_there_are_none_is_one_line(change, message, tmp_path, x86, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(file))
    change = {name: value.replace("FILE", str(file)) for name, value in change.items()}
    with pytest.raises(build.KernelBuildError, match=message.replace("FILE", str(file))) as raised:
        build_library(compiler(tmp_path) | change)
    assert "\n" not in str(raised.value)


def test_a_compiler_that_fails_is_quoted(tmp_path, x86):
    body = 'echo "In file x" >&2; echo "x.cpp:1: error: no such thing" >&2; exit 1'
    with pytest.raises(build.KernelBuildError, match=r"fake-c\+\+ failed: x.cpp:1: error: no such thing$"):
        build_library(compiler(tmp_path, body=body))
    assert list((tmp_path / "cache" / "gr00t-duquant" / "kernels").glob("*/*")) == []


def test_another_processor_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(build.KernelBuildError, match="there are none for a riscv64 processor"):
        build_library(compiler(tmp_path))


@pytest.mark.parametrize("body", ["exit 1", ""], ids=["compiler fails", "library is none"])
def test_layers_run_without_kernels_and_say_so_once(body, tmp_path, x86, monkeypatch, caplog):
    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_why_not", "they were not loaded")
    with caplog.at_level(logging.WARNING):
        assert library.load(compiler(tmp_path, body)) == ()
        assert library.load(compiler(tmp_path, body)) == ()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("[GR00T-DUQUANT] No compiled CPU kernels: ")
    layer = DuQuantLinear.from_linear(nn.Linear(32, 8).requires_grad_(False), LinearSpec(32, 8))
    assert layer.backend.transformer == "torch"
    assert library.why_not() in layer.backend.transformer_reason
    assert layer(torch.ones(2, 32)).shape == (2, 8)


def test_the_choice_is_a_pure_predicate():
    native = ("fast", "slow")
    for must_be_integer in (True, False):
        assert choose_accumulator(CPU, must_be_integer, native) == (
            "fast",
            "the compiled kernel fast, on packed codes",
        )
    assert choose_accumulator(torch.device("meta"), True, native)[0] == "fast"
    assert choose_transforms(CPU, native) == ("fast", "compiled, one pass each")
    assert choose_transforms(CPU, (), "no compiler") == ("torch", "no compiled kernels: no compiler")
    refused = "fastest: a sandbox"  # the processor would have it
    assert choose_accumulator(CPU, True, native, refused) == (
        "fast",
        "the compiled kernel fast, on packed codes; without fastest: a sandbox",
    )
    assert choose_transforms(CPU, native, refused) == (
        "fast",
        "compiled, one pass each; without fastest: a sandbox",
    )
    assert choose_transforms(torch.device("xpu"), native) == ("torch", "no compiled kernels for xpu")


def test_integer_execution_falls_back_to_pytorchs_int8_where_that_is_exact(monkeypatch):
    monkeypatch.setattr(choice, "try_int8", lambda: (True, "tried"))
    assert choose_accumulator(CPU, True, (), "no compiler") == (
        "int8",
        "tried; no compiled kernels: no compiler",
    )
    monkeypatch.setattr(choice, "try_int8", lambda: (False, "wrong here"))
    with pytest.raises(ValueError, match=r"^EXECUTION=integer: wrong here; no compiled kernels: no compiler"):
        choose_accumulator(CPU, True, (), "no compiler")


def test_every_execution_takes_the_fastest_kernel(native_kernels):
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    linear = nn.Linear(32, 8).requires_grad_(False)
    layer = DuQuantLinear.from_linear(linear, LinearSpec(32, 8))
    for execution in Execution:
        chosen = layer.run_as(RuntimeOptions(execution)).backend
        assert chosen.accumulator == chosen.transformer == native_kernels[0], execution
        assert chosen.around is chosen.sums


def test_a_kernel_that_the_processor_shows_and_may_not_use_is_said_once(native_kernels, monkeypatch, caplog):
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")

    class Refusing(library._Library):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.kernels.pop("amx_int8", None)
            self.refusals = {"amx_int8": "a sandbox forbids it"}

    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_Library", Refusing)
    with caplog.at_level(logging.WARNING):
        found = library.load(os.environ)
        assert library.load(os.environ) == found
    assert caplog.messages == ["[GR00T-DUQUANT] The CPU kernel amx_int8 is not used: a sandbox forbids it"]
    layer = DuQuantLinear.from_linear(nn.Linear(32, 8).requires_grad_(False), LinearSpec(32, 8))
    assert layer.backend.accumulator == found[0] != "amx_int8"
    assert layer.backend.accumulator_reason.endswith(
        "on packed codes; without amx_int8: a sandbox forbids it"
    )


def test_a_record_that_is_laid_out_otherwise_in_c_is_refused_by_name_on_both_sides(native_kernels):
    """The true layouts were compared when the library was loaded; here Python forgets a field."""
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    declared = library._declared(library._library.records["duquant_linear_operands"])
    library._check_layout(LinearOperands, declared)
    assert declared[-1] == ("all of it", 0, 8 * (5 + 3 * 5 + 5))
    with pytest.raises(build.KernelBuildError) as raised:
        library._check_layout(LinearOperands, (declared[0], *declared[2:]))
    assert str(raised.value) == (
        "LinearOperands, field 1: Field(name='perm', at=8, bytes=8) in kernels/operands.py, "
        "Field(name='act_scale', at=16, bytes=8) in the compiled library"
    )
    with pytest.raises(build.KernelBuildError, match=r"field 15: .* bytes=200\) in .*, None in the compiled"):
        library._check_layout(LinearOperands, declared[:-1])


def test_a_tensor_that_is_not_contiguous_does_not_reach_c():
    layer = no_operands(codes=torch.zeros(4, 6, dtype=torch.uint8).T)
    with pytest.raises(ValueError, match=r"a tensor of shape \(6, 4\) is not contiguous"):
        layer.flatten()


def test_the_roofline_counts_operations(native_kernels):
    if not native_kernels:
        pytest.skip("no compiled kernels; install a C++ compiler")
    per_round = library.peak_operations(native_kernels[0], 1)
    assert per_round > 0
    assert library.peak_operations(native_kernels[0], 1000) == 1000 * per_round
    with pytest.raises(library.NativeKernelError, match="'none' is not there"):
        library.peak_operations("none", 1)
