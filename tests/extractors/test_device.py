"""Torchaudio with and without its extension, each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from extractors.device import find_device

ROOT = Path(__file__).parents[2]


def run(code: str, *folders: Path) -> str:
    """Run code with warnings as errors, modules found in `folders` first."""
    path = f"import sys; sys.path[:0] = {[str(folder) for folder in (*folders, ROOT)]}\n"
    command = [sys.executable, "-W", "error", "-c", path + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_torchaudio(folder: Path, extension: str, rest: str = "") -> Path:
    """A package that loads its extension first, as torchaudio does."""
    package = folder / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "_extension" / "__init__.py").write_text(extension)
    (package / "__init__.py").write_text(f"from . import _extension\n{rest}")
    return folder


INSTALLED = """
import extractors.backbones.ast_, extractors.backbones.hf
assert not {"torchaudio", "transformers"} & sys.modules.keys(), "imported by us"
try:
    import torchaudio
    broken = False
except OSError:
    broken = True
from extractors.device import torchaudio, transformers
module = torchaudio()
assert torchaudio() is module is sys.modules["torchaudio"]
import torch, torchaudio
from torchaudio.compliance import kaldi
wave = torch.randn(1, 16_000)
assert kaldi.fbank(wave, num_mel_bins=128).shape == (98, 128)
assert module.transforms.TimeMasking(5)(torch.ones(1, 8, 50)).shape == (1, 8, 50)
noisy = module.transforms.AddNoise()(wave, torch.randn(1, 16_000), torch.tensor([300.0]))
torch.testing.assert_close(noisy, wave)
assert module.transforms.SpeedPerturbation(16_000, [0.5])(wave)[0].shape == (1, 32_000)
one, half = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0])
filtered = module.functional.lfilter(wave, one, half, clamp=False)
torch.testing.assert_close(filtered, wave / 2)
if broken:
    try:
        module.functional.forced_align(torch.zeros(1, 5, 3), torch.ones(1, 2, dtype=torch.int32))
    except RuntimeError as error:
        assert "forced_align needs torchaudio's extension" in str(error), error
    else:
        raise AssertionError
extractor = transformers().ASTFeatureExtractor()
assert extractor(wave.numpy(), sampling_rate=16_000)["input_values"][0].shape == (1024, 128)
from speechbrain.lobes.models.beats import BEATs
print("broken" if broken else "whole")
"""


def test_what_is_installed_can_be_used_and_nothing_is_imported_early() -> None:
    assert run(INSTALLED).strip() in ("broken", "whole")


def test_a_whole_torchaudio_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write_torchaudio(tmp_path, "loaded = 42")
    code = "from extractors.device import torchaudio; print(torchaudio()._extension.loaded)"
    assert run(code, folder).strip() == "42"


@pytest.mark.parametrize("error", ["OSError('no libcudart')", "RuntimeError('other CUDA')"])
def test_an_extension_that_cannot_load_is_stood_in_for(tmp_path: Path, error: str) -> None:
    uses = "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align"
    folder = write_torchaudio(tmp_path, f"raise {error}", uses)
    code = (
        "from extractors.device import torchaudio; module = torchaudio()\n"
        "import torchaudio; assert torchaudio is module\n"
        "print(module._IS_TORCHAUDIO_EXT_AVAILABLE, module._extension._load_lib('x'))"
    )
    assert run(code, folder).strip() == "False False"


def test_another_fault_shows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = write_torchaudio(tmp_path, "", "raise OSError('disk on fire')")
    code = """
from extractors.device import torchaudio, transformers
try:
    torchaudio()
except OSError as error:
    print(error, [name for name in sys.modules if name.startswith("torchaudio")])
"""
    assert run(code, folder).strip() == "disk on fire []"


def test_float32_of_a_gpu_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    find_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: its benchmark would run")
def test_the_benchmark_of_a_gpu_says_where_there_is_none() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("nothing was measured: --device cuda: not to be had here")
    assert not done.stdout
