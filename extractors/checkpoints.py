"""The published checkpoints: what they are called, where they are, what they may be used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import AsdError
from extractors.backbone import Source


@dataclass(frozen=True)
class Checkpoint:
    """A published weights file.

    Attributes
    ----------
    file
        Its name.
    source
        Where it is published.
    sha256
        Of its bytes; empty where no public record was found.
    licence
        Of the weights.
    paper
        What to cite.
    """

    file: str
    source: str
    sha256: str
    licence: str
    paper: str

    def __str__(self) -> str:
        return f"{self.file} ({self.licence}) from {self.source}"


def needed(source: Source, backbone: str, known: Sequence[Checkpoint]) -> Path:
    """Return the weights file that was given.

    Parameters
    ----------
    source
        What the user said.
    backbone
        Its name, for the message.
    known
        The published files that would do, the usual one first.

    Raises
    ------
    AsdError
        If none was given; the usual one is named with its source and licence.
    """
    if source.weights is None:
        others = f", or {' or '.join(c.file for c in known[1:])}" if known[1:] else ""
        raise AsdError(f"{backbone} needs --weights FILE: bring {known[0]}{others}")
    return source.weights


_BEATS = "arXiv 2212.09058"
_BEATS_AT = "github.com/microsoft/unilm, folder beats"
_PANNS = "Kong et al. 2020, arXiv 1912.10211"
_PANNS_AT = "Zenodo record 3987831"
_EFFICIENTAT_AT = "the releases of github.com/fschmid56/EfficientAT, v0.0.1"
_EFFICIENTAT = "Schmid et al. 2023, arXiv 2211.04772"

BEATS = (
    Checkpoint(
        "BEATs_iter3_plus_AS2M.pt",
        _BEATS_AT,
        "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34",
        "MIT",
        _BEATS,
    ),
    Checkpoint(
        "BEATs_iter3.pt",
        _BEATS_AT,
        "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34",
        "MIT",
        _BEATS,
    ),
    Checkpoint(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1.pt",
        _BEATS_AT,
        "7f9362028ac6e5c049e8dc314d87e90e4f82a15a8e472deb56af55d7f9b34d6a",
        "MIT",
        _BEATS,
    ),
    Checkpoint(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
        _BEATS_AT,
        "e5815275a04b6885e7b8af63d120b29bffae2cd2225cf4915e1ec6d819d3022c",
        "MIT",
        _BEATS,
    ),
)
PANNS = (
    Checkpoint(
        "Cnn14_16k_mAP=0.438.pth",
        _PANNS_AT,
        "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        "CC BY 4.0",
        _PANNS,
    ),
    Checkpoint(
        "Cnn14_mAP=0.431.pth",
        _PANNS_AT,
        "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        "CC BY 4.0",
        _PANNS,
    ),
    Checkpoint("Cnn10_mAP=0.380.pth", _PANNS_AT, "", "CC BY 4.0", _PANNS),
    Checkpoint("Cnn6_mAP=0.343.pth", _PANNS_AT, "", "CC BY 4.0", _PANNS),
)
EFFICIENTAT = (
    Checkpoint(
        "mn04_as_mAP_432.pt",
        _EFFICIENTAT_AT,
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        "MIT",
        _EFFICIENTAT,
    ),
    Checkpoint("mn10_as_mAP_471.pt", _EFFICIENTAT_AT, "", "MIT", _EFFICIENTAT),
)
AST_MODEL, AST_REVISION = (
    "MIT/ast-finetuned-audioset-10-10-0.4593",
    "f826b80d28226b62986cc218e5cec390b1096902",
)
AST = Checkpoint(
    "model.safetensors",
    f"the Hugging Face hub, {AST_MODEL} at {AST_REVISION}",
    "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d",
    "BSD-3-Clause",
    "Gong et al. 2021, arXiv 2104.01778",
)
