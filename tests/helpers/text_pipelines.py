"""Small text-to-audio pipelines of diffusers, laid out as the published ones, parameters random."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from extractors.device import transformers

_BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
_WORDS = 64  # vocabulary of the tokenizers: letters, and what marks beginnings and ends
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-"


def write_audioldm2(folder: Path) -> Path:
    """AudioLDM 2 as on the hub, its language model saved as a plain GPT2Model."""
    torch.manual_seed(0)
    kinds, diffusers = transformers(), _diffusers()
    clap = kinds.ClapConfig(text_config=_clap_text(), audio_config=_clap_audio(), projection_dim=16)
    t5 = kinds.T5Config(
        vocab_size=_WORDS, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    gpt2 = kinds.GPT2Config(
        vocab_size=_WORDS, n_embd=20, n_layer=1, n_head=2, n_positions=128, n_ctx=128,
        bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    language = kinds.GPT2Model(gpt2)
    unet = diffusers.AudioLDM2UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=[[None, 20, 24]] * 2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2, **_BLOCKS,
    )  # fmt: skip
    pipe = diffusers.AudioLDM2Pipeline(
        vae=_vae(diffusers), text_encoder=kinds.ClapModel(clap),
        text_encoder_2=kinds.T5EncoderModel(t5),
        projection_model=diffusers.AudioLDM2ProjectionModel(16, 24, 20),
        language_model=language, tokenizer=_roberta(kinds), tokenizer_2=_t5(kinds),
        feature_extractor=kinds.ClapFeatureExtractor(), unet=unet, scheduler=_scheduler(diffusers),
        vocoder=_vocoder(kinds),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def write_audioldm(folder: Path) -> Path:
    """AudioLDM as on the hub."""
    torch.manual_seed(0)
    kinds, diffusers = transformers(), _diffusers()
    text = kinds.ClapTextConfig(**_clap_text())
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=16,
        class_embeddings_concat=True, **_BLOCKS,
    )  # fmt: skip
    pipe = diffusers.AudioLDMPipeline(
        vae=_vae(diffusers), text_encoder=kinds.ClapTextModelWithProjection(text),
        tokenizer=_roberta(kinds), unet=unet, scheduler=_scheduler(diffusers),
        vocoder=_vocoder(kinds),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def _diffusers() -> Any:
    transformers()
    return import_module("diffusers")


def _clap_text() -> dict[str, Any]:
    return {
        "vocab_size": _WORDS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 96, "pad_token_id": 1,
        "projection_dim": 16,
    }  # fmt: skip


def _clap_audio() -> dict[str, Any]:
    return {
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16,
        "hidden_size": 32, "spec_size": 64, "num_mel_bins": 32, "window_size": 4,
        "projection_dim": 16,
    }  # fmt: skip


def _roberta(kinds: Any) -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = {word: number for number, word in enumerate([*special, "Ġ", *_LETTERS])}
    return kinds.RobertaTokenizer(vocab=words, merges=[], model_max_length=90)


def _t5(kinds: Any) -> Any:
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((w, -2.0) for w in "▁" + _LETTERS)]
    return kinds.T5Tokenizer(vocab=words, extra_ids=0, model_max_length=90)


def _vae(diffusers: Any) -> Any:
    return diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        **_BLOCKS,
    )  # fmt: skip


def _vocoder(kinds: Any) -> Any:
    config = kinds.SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16_000, upsample_initial_channel=16, upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        normalize_before=False,
    )  # fmt: skip
    return kinds.SpeechT5HifiGan(config)


def _scheduler(diffusers: Any) -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False,
    )  # fmt: skip
