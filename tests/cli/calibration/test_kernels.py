"""What a calibration rounds by, and how far it is. Oracles: its environment; the layers by hand."""

from __future__ import annotations

from gr00t.cli.calibration import program
from gr00t.cli.calibration.arguments import CalibrateArguments
from gr00t.testing.random_checkpoint import write_random_checkpoint
from tests.cli.test_calibrate import settings


def test_layers_are_rounded_by_kernels_from_the_compiler_and_cache_of_the_environment(
    tmp_path, monkeypatch, capsys
):
    """PyTorch's rounding with feedback takes many times as long, and nothing says so."""
    loaded = []
    monkeypatch.setattr("gr00t.quantization.quantize.load_kernels", loaded.append)
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    environ = settings(tmp_path / "packs")
    arguments = CalibrateArguments(str(checkpoint), synthetic=4, device="cpu", denoising_steps=1)
    program.calibrate(arguments, environ)
    assert loaded == [environ]
    # Two decoder layers of seven linears, four of the diffusion transformer with two.
    assert f"quantizing: 100%|██████████| {2 * 7 + 4 * 2}/22 [" in capsys.readouterr().err
