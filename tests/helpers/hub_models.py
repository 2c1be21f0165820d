"""Small models of transformers as they lie on the hub, every parameter random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from extractors.device import transformers

_LAYERS = {"num_hidden_layers": 3, "num_attention_heads": 2}
_SMALL = {"hidden_size": 32, "intermediate_size": 48, **_LAYERS}
_CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16}
_WAVE = {**_SMALL, **_CONVOLUTIONS, "num_conv_pos_embedding_groups": 2}
FEW_PATCHES = {"frequency_stride": 16, "time_stride": 16, "num_hidden_layers": 2}
NARROW = {"conv_dim": [4] * 7, "hidden_size": 16, "num_hidden_layers": 2}


def write_model(folder: Path, model: Any, extractor: Any) -> Path:
    """Save a model under random parameters, with its feature extractor."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def write_ast(folder: Path, *, frames: int = 256, **changes: Any) -> Path:
    """AST with its classifier."""
    kinds = transformers()
    config = kinds.ASTConfig(**{**_SMALL, "max_length": frames, **changes})
    extractor = kinds.ASTFeatureExtractor(max_length=frames)
    return write_model(folder, kinds.ASTForAudioClassification(config), extractor)


def write_wave(folder: Path, kind: str, **changes: Any) -> Path:
    """A model on waveforms: ``Wav2Vec2``, ``Hubert``, ``WavLM``, ``Data2VecAudio``."""
    kinds = transformers()
    config = getattr(kinds, f"{kind}Config")(**{**_WAVE, **changes})
    extractor = kinds.Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    return write_model(folder, getattr(kinds, f"{kind}Model")(config), extractor)


def write_pe_audio(folder: Path) -> Path:
    """The encoder of PE-Audio: a class token before a frame of 1920 samples each, at 48 kHz."""
    kinds = transformers()
    codec = {
        "encoder_hidden_size": 4,
        "codebook_dim": 8,
        "hidden_size": 16,
        "downsampling_ratios": [2, 8, 10, 12],
    }
    config = kinds.PeAudioEncoderConfig(
        dac_config=codec,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        head_dim=16,
    )
    return write_model(folder, kinds.PeAudioEncoder(config), kinds.PeAudioFeatureExtractor())


def write_whisper(folder: Path) -> Path:
    """Whisper that hears 3 s, with its decoder."""
    kinds = transformers()
    config = kinds.WhisperConfig(
        d_model=32,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=150,
        max_target_positions=8,
        vocab_size=60,
        **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")},
    )
    return write_model(folder, kinds.WhisperModel(config), kinds.WhisperFeatureExtractor(chunk_length=3))


def write_clap(folder: Path, *, fusion: bool = False) -> Path:
    """CLAP that hears 1 s at 48 kHz, with its text tower."""
    kinds = transformers()
    text = {**_SMALL, "vocab_size": 60, "max_position_embeddings": 16, "pad_token_id": 1}
    audio = {
        "depths": [2, 2],
        "num_attention_heads": [2, 2],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "spec_size": 64,
        "num_mel_bins": 32,
        "window_size": 4,
        "enable_fusion": fusion,
    }
    config = kinds.ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    extractor = kinds.ClapFeatureExtractor(
        feature_size=32, max_length_s=1, truncation="fusion" if fusion else "rand_trunc"
    )
    return write_model(folder, kinds.ClapModel(config), extractor)
