"""The C++ of the kernels: no warnings, no overrun, the same sums for every processor, one format.

Oracles: the compiler with its warnings as errors, its address and undefined-behaviour sanitizers, and the
hash of what `native/driver.cpp` computes, which has to be the same on every instruction set, this machine's
or emulated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from gr00t.files.private_folder import private_folder
from gr00t.quantization.kernels import build, library

NATIVE = Path(__file__).parent / "native"
DRIVER = NATIVE / "driver.cpp", NATIVE / "emulated_tiles.cpp"
REPO = Path(__file__).parents[3]
STRICT = ("-Wall", "-Wextra", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CROSS = "aarch64-linux-gnu-g++"


@dataclasses.dataclass(frozen=True)
class Program:
    """A build of the driver, and what runs it."""

    path: Path
    runner: tuple[str, ...] = ()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Leaks are not looked for: the last call's workspace is kept on purpose.
        environ = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [*self.runner, str(self.path), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)


def program(compiler: str, kernels: Mapping[str, str], *flags: str) -> Path:
    """Build the driver with all of `kernels`, or find it as it was built: some seconds, once."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(repr((version, build.FLAGS, flags, sorted(kernels.items()))).encode())
    for source in sorted(path for path in (*build.SOURCES.rglob("*.?pp"), *DRIVER)):
        digest.update(source.read_bytes())
    folder = private_folder(os.environ, "kernel-tests", digest.hexdigest()[:24])
    path = folder / "driver"
    if not path.exists():
        base = [compiler, *build.FLAGS, "-fopenmp", *flags]
        compiled = build.compile_kernels(base, kernels, folder)
        assert compiled.keys() == kernels.keys(), "a kernel does not compile without warnings"
        built = build.link(base, compiled, folder / "building", *map(str, DRIVER), f"-I{build.SOURCES}")
        os.replace(built, path)
    return path


@pytest.fixture(scope="module")
def here() -> tuple[str, Mapping[str, str]]:
    """A compiler of this machine, and the kernels that there are for it."""
    kernels = build.KERNELS.get(platform.machine().lower())
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if kernels is None or compiler is None:
        pytest.skip("no g++; on Debian: apt-get install g++")
    return compiler, kernels


@pytest.fixture(scope="module")
def results(here) -> set[str]:
    """What the kernels that this processor can run compute, built as they are but without a warning."""
    done = Program(program(*here, *STRICT)).run()
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) >= 1
    assert [name for name, _ in lines] == [name for name in here[1] if name in dict(lines)]
    return {value for _, value in lines}


def test_without_a_warning_all_instruction_sets_compute_the_same(results):
    assert len(results) == 1


def test_an_emulator_that_multiplies_wrongly_would_be_noticed(here, results):
    """Where the processor has AMX, or not what else the kernel needs, nothing is emulated."""
    done = Program(program(*here, *STRICT)).run("wrong")
    lines = dict(line.split() for line in done.stdout.splitlines())
    if "amx_int8" not in lines or "amx_int8" in library.loaded():
        pytest.skip("nothing is emulated here")
    assert lines.pop("amx_int8") not in results
    assert {*lines.values()} == results


def test_no_kernel_can_get_another_ones_code(here, tmp_path):
    """Without optimization nothing is inlined that need not be; what two objects define is merged."""
    nm = shutil.which("nm")
    assert nm is not None, "binutils come with the compiler"
    compiled = build.compile_kernels([here[0], *build.FLAGS, "-fopenmp", "-O0"], here[1], tmp_path)
    for kernel, path in compiled.items():
        command = [nm, "--demangle", "--defined-only", "--extern-only", "--format=posix", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        defined = [line.rsplit(maxsplit=3)[0] for line in done.stdout.splitlines()]
        assert f"kernel_{kernel}" in defined
        shared = [name for name in defined if f"{kernel}::" not in name and name != f"kernel_{kernel}"]
        assert shared == [], kernel


def test_a_warning_would_be_an_error(here, tmp_path):
    source = tmp_path / "unused.cpp"
    source.write_text("int f(int unused) { return 0; }\n")
    command = [here[0], *build.FLAGS, *STRICT, "-c", str(source), "-o", str(tmp_path / "unused.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "[-Werror=unused-parameter]" in done.stderr


def sanitized_program(
    compiler: str, kernels: Mapping[str, str], folder: Path, runner: tuple[str, ...] = ()
) -> Program:
    """Build the driver to be run under the sanitizers; skip where there are none."""
    (folder / "main.cpp").write_text("int main() {}\n")
    command = [compiler, *SANITIZED, str(folder / "main.cpp"), "-o", str(folder / "main")]
    if (
        subprocess.run(command, capture_output=True, check=False).returncode
        or Program(folder / "main", runner).run().returncode
    ):
        pytest.skip(f"{compiler} has no sanitizer runtime (libasan, libubsan)")
    return Program(program(compiler, kernels, *SANITIZED), runner)


@pytest.fixture(scope="module")
def sanitized(here, tmp_path_factory) -> Program:
    return sanitized_program(*here, tmp_path_factory.mktemp("probe"))


def test_no_kernel_reads_or_writes_beyond_its_tensors(sanitized, results):
    """120 layers, 40 searches and 40 panels of odd shapes, on every kernel that this processor can run."""
    done = sanitized.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[1] for line in done.stdout.splitlines()} == results


def test_the_sanitizer_would_catch_an_overrun(sanitized):
    """An output that is one number too short."""
    done = sanitized.run("overrun")
    assert done.returncode != 0
    assert "ERROR: AddressSanitizer" in done.stderr
    assert "epilogue.hpp" in done.stderr


@pytest.fixture(scope="module")
def arm() -> tuple[str, str]:
    """A compiler for ARM, and an emulator."""
    compiler, emulator = shutil.which(CROSS), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip(
            f"no {CROSS} or no qemu-aarch64; on Debian: apt-get install g++-aarch64-linux-gnu qemu-user"
        )
    return compiler, emulator


def test_arm_computes_the_same_bits(arm, results):
    """Cross-compiled without a warning, and emulated: a processor runs all that it has, and only that."""
    compiler, emulator = arm
    kernels = build.KERNELS["aarch64"]
    path = program(compiler, kernels, *STRICT, "-static")
    for processor, runs in (
        ("max", ["neon_i8mm", "neon_dotprod", "portable"]),
        ("cortex-a76", ["neon_dotprod", "portable"]),
        ("cortex-a53", ["portable"]),
    ):
        done = Program(path, (emulator, "-cpu", processor)).run()
        assert done.returncode == 0, done.stderr
        lines = dict(line.split() for line in done.stdout.splitlines())
        assert [*lines] == runs
        assert {*lines.values()} == results


def test_no_arm_kernel_reads_or_writes_beyond_its_tensors(arm, results, tmp_path):
    compiler, emulator = arm
    command = [compiler, "-print-file-name=libc.so.6"]
    libc = subprocess.run(command, capture_output=True, text=True, check=True)
    root = Path(libc.stdout.strip()).resolve().parents[1]
    runner = (emulator, "-cpu", "max", "-L", str(root))
    done = sanitized_program(compiler, build.KERNELS["aarch64"], tmp_path, runner).run()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [*build.KERNELS["aarch64"]]
    assert {line.split()[1] for line in done.stdout.splitlines()} == results


def test_every_instruction_set_has_its_file_and_nothing_else_knows_of_one():
    listed = {name for kernels in build.KERNELS.values() for name in kernels}
    files = {path.stem: path.read_text() for path in (build.SOURCES / "isa").glob("*.hpp")}
    assert files.keys() == listed | {"plain"}
    for folder in (path for path in (build.SOURCES / "isa").iterdir() if path.is_dir()):
        users = {name for name, text in files.items() if f'#include "{folder.name}/' in text}
        assert users == {name for name in listed if name.startswith(folder.name)}, folder.name
    words = ("amx", "__AVX", "__ARM", "KERNEL_", "immintrin", "arm_neon", "_mm256", "_mm512")
    for source in build.SOURCES.glob("*.?pp"):
        assert not [word for word in words if word in source.read_text()], source.name


def test_sources_are_formatted():
    """By .clang-format; `clang-format -i FILES` mends it."""
    clang_format = Path(sysconfig.get_path("scripts")) / "clang-format"
    if not clang_format.exists():
        pytest.skip("clang-format is not installed; run: ./scripts/setup_env.sh core dev")
    sources = [*build.SOURCES.rglob("*.?pp"), *NATIVE.glob("*.cpp")]
    done = [
        (source, subprocess.run([clang_format, source], cwd=REPO, capture_output=True, text=True, check=True))
        for source in sources
    ]
    differing = [str(source.relative_to(REPO)) for source, made in done if made.stdout != source.read_text()]
    assert differing == [], f"clang-format -i {' '.join(differing)}"
