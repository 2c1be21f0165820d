"""EAT, FISHER and CED against their publishers' networks: equality, golden values, speed.

``python -m benchmarks.encoders NAME[:SIZE] CLONE`` with a clone of github.com/cwx-worst-one/EAT,
jianganbai/FISHER or jimbozhang/hf_transformers_custom_model_ced. Both networks get the same random
parameters and compute in turn, at least three pairs and until ``--seconds`` are spent on a batch size;
the ratios printed are of the times of one pair, so that a busy machine troubles both alike.
``--golden`` writes what the tests compare with.

The publishers' code imports fairseq, timm, omegaconf and einops, of which inference needs next to nothing:
the few names are stood in for here. ``D2vDecoderConfig()`` as a default of a dataclass, which Python 3.11
refuses, is made a factory while the clone is read.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.ours import at_once, embedder, measured
from benchmarks.timing import HEAD, Row, machine, seconds
from extractors import backbones
from extractors.backbone import Source
from extractors.backbones import ced, eat, fisher
from extractors.device import torchaudio, transformers
from extractors.embedding.embedder import window_starts
from extractors.nets.vit import VitSizes
from tests.helpers.small_models import SMALLEST, noise_of, picked, write_ced, write_eat, write_fisher

GOLDEN = Path(__file__).parents[1] / "tests" / "helpers" / "encoders.json"
DEEP = VitSizes(128, 24, 2)  # as deep as EAT large, and as few values a head
SIZES = {"eat": eat.SIZES, "fisher": fisher.SIZES, "ced": ced.SIZES}  # the usual first
WRITE = {"eat": write_eat, "fisher": write_fisher, "ced": write_ced}
RATES = (1000, 25_600, 44_100, 48_000, 96_000)  # of FISHER, beside 16 kHz
_IMAGE = "modality_encoders.IMAGE."
_FACTORY = r"= __import__('dataclasses').field(default_factory=lambda: \1())"


class _Mlp(nn.Module):
    """What timm calls so."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: Any = nn.GELU, **_: float) -> None:
        super().__init__()
        self.fc1, self.act = nn.Linear(in_features, hidden_features), act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        mapped: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return mapped


def _rearranged(values: Tensor, pattern: str, nb: int = 1) -> Tensor:
    """Do what FISHER asks einops for: put bands, in front, into the batch, and take `nb` out of it."""
    if pattern == "nb B c t f -> (B nb) c t f":
        return values.transpose(0, 1).flatten(0, 1)
    assert pattern == "(B nb) D -> B (nb D)", f"unknown to this stand-in: {pattern}"
    return values.reshape(len(values) // nb, -1)


def stand_in() -> None:
    """Offer the names that the publishers' files import."""

    def module(name: str, *unused: str, **names: Any) -> None:
        made = ModuleType(name)
        made.__dict__.update(dict.fromkeys(unused, nn.Identity), **names)
        sys.modules[name] = made

    def pair(size: Any) -> Any:
        return size if isinstance(size, tuple) else (size, size)

    models = {"BaseFairseqModel": nn.Module, "register_model": lambda *_, **__: lambda made: made}
    module("fairseq")
    module("fairseq.data")
    module("fairseq.data.data_utils", "compute_mask_indices")
    layers = ("EMAModule", "EMAModuleConfig", "GradMultiply", "SamePad", "SamePad2d", "TransposeLast")
    module("fairseq.modules", *layers, LayerNorm=nn.LayerNorm)
    module("fairseq.modules.transformer_sentence_encoder", init_bert_params=lambda _: None)
    module("fairseq.dataclass", FairseqDataclass=object)
    module("fairseq.models", **models)
    module("fairseq.models.wav2vec")
    module("fairseq.models.wav2vec.wav2vec2", "TransformerSentenceEncoderLayer")
    module("fairseq.tasks", "FairseqTask")
    module("fairseq.utils", "index_put")
    module("einops", rearrange=_rearranged)
    module("omegaconf", II=str, MISSING="???")
    module("timm")
    module("timm.models")
    module("timm.layers", to_2tuple=pair)
    module("timm.models.layers", to_2tuple=pair)
    module("timm.models.vision_transformer", "DropPath", "PatchEmbed", "Block", Mlp=_Mlp)


def package(clone: Path, folder: str) -> str:
    """Copy a clone's package to where its default values are factories, and return its name."""
    place = Path(tempfile.mkdtemp())
    (place / folder).mkdir()
    (place / folder / "__init__.py").touch()
    for file in (clone / folder).glob("*.py"):
        text = re.sub(r"= (D2v\w+Config)\(\)", _FACTORY, file.read_text("utf-8"))
        (place / folder / file.name).write_text(text, "utf-8")
    sys.path.insert(0, str(place))
    return folder


class Peer:
    """A publisher's network and front end.

    Parameters
    ----------
    name
        Of the backbone.
    clone
        Of the publisher's repository.
    sizes
        Of the transformer.
    """

    def __init__(self, name: str, clone: Path, sizes: VitSizes) -> None:
        torch.manual_seed(0)
        self.name, self.rate = name, 16_000
        self.transforms = torchaudio().transforms
        self.kaldi = importlib.import_module("torchaudio.compliance.kaldi")
        self.network: Any = getattr(self, f"_{name}")(clone, sizes).eval()
        for parameter_name, value in self.network.named_parameters():
            if "positions" not in parameter_name:
                value.data += 0.05 * torch.randn_like(value)

    def _eat(self, clone: Path, sizes: VitSizes) -> nn.Module:
        module = importlib.import_module(package(clone, "models") + ".EAT_pretraining")
        images = importlib.import_module("models.images")
        image = images.D2vImageConfig()
        for key, value in {
            "type": module.Modality.IMAGE, "in_chans": 1, "embed_dim": sizes.width, "decoder": None,
            "prenet_depth": 0, "num_extra_tokens": 1, "init_extra_token_zero": False,
            "use_alibi_encoder": False, "num_alibi_heads": sizes.heads, "model_depth": sizes.depth,
        }.items():  # fmt: skip
            setattr(image, key, value)
        config = module.Data2VecMultiConfig()
        config.depth, config.embed_dim, config.num_heads = sizes.depth, sizes.width, sizes.heads
        config.supported_modality = module.Modality.IMAGE
        config.modalities = module.D2vModalitiesConfig()
        config.modalities.image = image
        made: nn.Module = module.Data2VecMultiModel(config, [module.Modality.IMAGE], skip_ema=True)
        return made

    def _fisher(self, clone: Path, sizes: VitSizes) -> nn.Module:
        module = importlib.import_module(package(clone, "models") + ".fisher")
        config = module.Data2VecMultiConfig()
        config.depth, config.embed_dim, config.num_heads = sizes.depth, sizes.width, sizes.heads
        image = config.modalities.image
        image.embed_dim, image.band_width = sizes.width, 100
        image.num_alibi_heads, image.model_depth = sizes.heads, sizes.depth
        made: nn.Module = module.FISHER(config)
        return made

    def _ced(self, clone: Path, sizes: VitSizes) -> Any:
        transformers()
        name = package(clone, "ced_model")
        config = importlib.import_module(f"{name}.configuration_ced").CedConfig(
            embed_dim=sizes.width, depth=sizes.depth, num_heads=sizes.heads, outputdim=3
        )
        made = importlib.import_module(f"{name}.modeling_ced").CedModel(config)
        made.init_bn.running_mean -= 30
        made.init_bn.running_var += 200
        self.extractor = importlib.import_module(f"{name}.feature_extraction_ced").CedFeatureExtractor()
        return made

    def fill(self, path: Path) -> None:
        """Put the parameters of `WRITE`'s file into the network."""
        state = torch.load(path)["model"] if self.name == "fisher" else load_file(path)
        state = {name.removeprefix("model.").removeprefix("encoder."): value for name, value in state.items()}
        if self.name == "eat":
            renamed = {
                name.replace("pre_norm", "context_encoder.norm"): value for name, value in state.items()
            }
            state = {("" if n.startswith("blocks") else _IMAGE) + n: v for n, v in renamed.items()}
        own = nn.Module.state_dict(self.network)
        positions = {name: value for name, value in own.items() if name.endswith("positions")}
        nn.Module.load_state_dict(self.network, {**state, **positions}, strict=True)

    def save(self, folder: Path) -> Path:
        """Write its parameters as the publishers do."""
        state = {name: value.clone() for name, value in nn.Module.state_dict(self.network).items()}
        if self.name == "ced":
            save_file({f"encoder.{name}": value for name, value in state.items()}, folder / "ced.safetensors")
            return folder / "ced.safetensors"
        heads = {"num_heads": self.network.cfg.num_heads}
        torch.save({"cfg": {"model": heads}, "model": state}, folder / f"{self.name}.pt")
        return folder / f"{self.name}.pt"

    def inputs(self, waveform: Tensor) -> Tensor:
        """(1, T) to what the network is given."""
        if self.name == "ced":
            values: Tensor = self.extractor(waveform, sampling_rate=self.rate)["input_values"]
            return values
        centred = waveform - waveform.mean()
        if self.name == "eat":
            bank = self.kaldi.fbank(
                centred, htk_compat=True, sample_frequency=self.rate, use_energy=False, dither=0.0,
                window_type="hanning", num_mel_bins=128, frame_shift=10,
            )  # fmt: skip
            filled = nn.functional.pad(bank, (0, 0, 0, -len(bank) % 16))
            return ((filled + 4.268) / (4.569 * 2))[None, None]
        n_fft, hop = 25 * self.rate // 1000, 10 * self.rate // 1000
        spectrum = self.transforms.Spectrogram(n_fft=n_fft, hop_length=hop, power=1, center=False)(centred)
        levels = (torch.log(spectrum + 1e-10).mT + 3.017344307886898) / (2 * 2.1531635155379805)
        return nn.functional.pad(levels, (0, max(0, 100 - levels.shape[2])))[:, None]

    def layers(self, waveform: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """(1, T) to (1, time, band, C) and the own embedding of each layer."""
        found: list[Any] = []
        hooks = [
            block.register_forward_hook(lambda *given: found.append(given[2]))
            for block in self.network.blocks
        ]
        top = self.run(self.inputs(waveform))
        for hook in hooks:
            hook.remove()
        if self.name == "ced":
            states = [*found[:-1], top]
            return [(s.unflatten(1, (4, -1)).transpose(1, 2), None) for s in states]
        bands = 8 if self.name == "eat" else 6
        states = [state[0] for state in found]  # (bands of FISHER, 1 + patches, C)
        grids = [s[:, 1:].unflatten(1, (-1, bands)) for s in states]
        return [
            (g.transpose(0, 1).flatten(1, 2)[None], s[:, 0].reshape(1, -1))
            for g, s in zip(grids, states, strict=True)
        ]

    def run(self, inputs: Tensor) -> Any:
        """Compute the top layer."""
        if self.name == "ced":
            return self.network(inputs).logits
        found = self.network.extract_features(inputs, remove_extra_tokens=False)
        return found["x"] if isinstance(found, dict) else found


def compare(peer: Peer, path: Path, seconds: float, rate: int = 16_000) -> list[list[float]]:
    """Print the largest difference of any value of any layer; return `picked` of each layer."""
    variant = f"@{rate}" if peer.name == "fisher" else ""
    backbone: Any = backbones.find(peer.name).load(Source(variant, weights=path), torch.device("cpu"))
    peer.rate, window, worst = rate, backbone.spec.max_samples, 0.0
    waveform, first = noise_of(seconds, rate), list[list[float]]()
    for start in window_starts(waveform.shape[1], window):
        part = waveform[:, start : start + window]
        with torch.inference_mode():
            pairs = list(zip(peer.layers(part), backbone.features(part, backbone.spec.layers), strict=True))
        worst = max([worst, *(float((t - o.frames).abs().max()) for (t, _), o in pairs)])
        worst = max([worst, *(float((t - o.native).abs().max()) for (_, t), o in pairs if t is not None)])
        first = first or [picked(t) + ([] if own is None else picked(own)) for (t, own), _ in pairs]
    print(f"{peer.name} {rate} Hz {seconds} s: largest difference of {len(first)} layers {worst:.1e}")
    return first


def golden(name: str, clone: Path, folder: Path) -> None:
    """Write what the publisher's network makes of the smallest model."""
    path = WRITE[name](folder / ("fisher.pt" if name == "fisher" else f"{name}.safetensors"))
    peer = Peer(name, clone, SMALLEST)
    peer.fill(path)
    cases = {str(seconds): compare(peer, path, seconds) for seconds in (6.24, 10.0, 18.0)}
    if name == "eat":
        path, peer = write_eat(folder / "deep.safetensors", DEEP), Peer(name, clone, DEEP)
        peer.fill(path)
        cases["10.0 of 24 layers"] = compare(peer, path, 10.0)[7::8]
    if name == "fisher":
        cases |= {f"2.0@{rate}": compare(peer, path, 2.0, rate) for rate in RATES}
    known = json.loads(GOLDEN.read_text("utf-8"))
    known[name] = {case: [[round(v, 6) for v in layer] for layer in layers] for case, layers in cases.items()}
    rows = [
        f'  "{n}": {{\n'
        + ",\n".join(
            f'    "{c}": [\n' + ",\n".join(f"      {layer}" for layer in layers) + "\n    ]"
            for c, layers in of.items()
        )
        + "\n  }"
        for n, of in sorted(known.items())
    ]
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


def speed(peer: Peer, path: Path, batch: int, budget: float) -> None:
    """Print a row: how long ours takes against theirs, from waveforms to the top layer, in turn."""
    backbone: Any = backbones.find(peer.name).load(Source(weights=path), torch.device("cpu"))
    clips = noise_of(10.0)[:, : backbone.spec.max_samples].repeat(batch, 1)
    forward = embedder(backbone, backbone.spec.layer)
    ours = partial(at_once, forward, measured(forward, 10.0), clips.numpy())

    def theirs() -> object:
        return peer.run(torch.cat([peer.inputs(clip[None]) for clip in clips]))

    pairs = list[tuple[float, float]]()
    with torch.inference_mode():
        begin = time.perf_counter() + seconds(ours) + seconds(theirs)  # of the second calls on
        while len(pairs) < 3 or time.perf_counter() - begin < budget:
            pairs.append((seconds(ours), seconds(theirs)))
    own, other = zip(*pairs, strict=True)
    what = f"{peer.name}, {backbone.spec.dim} wide, batch {batch}"
    print(Row(what, own, "its publisher's network", other, batch, 1.0), flush=True)


def main() -> None:
    """Compare and time, or write golden values."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help=f"{', '.join(SIZES)}, with a size behind a colon")
    parser.add_argument("clone", type=Path)
    parser.add_argument("--golden", action="store_true", help="write tests/helpers/encoders.json")
    parser.add_argument("--seconds", type=float, default=25.0, help="for each batch size (default: 25)")
    args = parser.parse_args()
    name, _, size = args.name.partition(":")
    torchaudio()
    stand_in()
    with tempfile.TemporaryDirectory() as folder:
        if args.golden:
            golden(name, args.clone, Path(folder))
            return
        peer = Peer(name, args.clone, SIZES[name][size or next(iter(SIZES[name]))])
        path = peer.save(Path(folder))
        for length in (6.24, 10.0, 18.0):
            compare(peer, path, length)
        print(f"\n{machine()}, {torch.get_num_threads()} threads\n")
        print(HEAD)
        for batch in (1, 8):
            speed(peer, path, batch, args.seconds)


if __name__ == "__main__":
    main()
