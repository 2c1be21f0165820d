"""The published checkpoints: what they are called, where they are, what they may be used for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from urllib.parse import quote

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from cache.select import Selection
from extractors.fetching.download import megabytes
from extractors.fetching.offline import home


@dataclass(frozen=True)
class Checkpoint:
    """A published weights file.

    Attributes
    ----------
    file
        Name of the file.
    backbone, variant
        What it is for, and which ``--backbone NAME:VARIANT`` asks for it; one that holds several
        variants' worth or has none is left empty.
    source
        Where it is published, for people.
    urls
        Where to fetch it, tried in order; empty for a model that the hub's own client fetches.
    sha256, md5
        Of its bytes; empty where no public record was found.
    size
        Bytes; ``None`` where no public record was found.
    licence
        Of the weights.
    paper
        What to cite.
    model
        Its id on the hub, where it is a model and no single file.
    """

    file: str
    backbone: str
    source: str
    urls: tuple[str, ...]
    licence: str
    paper: str
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    variant: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """What it is called on the command line: a hub's model by its id, all others by file."""
        return self.model or self.file

    @property
    def known_hash(self) -> str | None:
        """``ALGORITHM:HEX`` of what a download must be, ``None`` where nothing is known."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None

    def __str__(self) -> str:
        return f"{self.file} ({self.about}) from {self.source}"

    @property
    def about(self) -> str:
        """Size where it is known, and licence."""
        return self.licence if self.size is None else f"{megabytes(self.size)}, {self.licence}"


def find(name: str) -> Checkpoint | None:
    """Find a checkpoint by its name, with or without the suffix; ``None`` if unknown."""
    for checkpoint in CHECKPOINTS:
        if name in {checkpoint.name, checkpoint.model or PurePath(checkpoint.file).stem}:
            return checkpoint
    return None


def published(sha256: str) -> Checkpoint | None:
    """Find a checkpoint by its content; ``None`` if none has that hash."""
    return next((each for each in CHECKPOINTS if each.sha256 == sha256), None)


def named(name: str) -> Checkpoint:
    """Find a checkpoint by its name.

    Raises
    ------
    AsdError
        If none is called so; the known ones are listed.
    """
    found = find(name)
    if found is None:
        known = ", ".join(checkpoint.name for checkpoint in CHECKPOINTS)
        raise AsdError(f"no checkpoint is called {name!r}; known are {known}")
    return found


def usual(backbone: str, variant: str, known: Sequence[Checkpoint]) -> Checkpoint:
    """Choose the checkpoint of a variant, or the first where no variant is named.

    Raises
    ------
    AsdError
        If none of them is of that variant.
    """
    fitting = [each for each in known if variant in {"", each.variant}]
    if not fitting:
        offered = ", ".join(each.variant for each in known)
        raise AsdError(
            f"{backbone}:{variant} has no published checkpoint that is known here (known are "
            f"{offered}); name its file: --weights FILE"
        )
    return fitting[0]


_HUB = "https://huggingface.co"
# The publisher's own links open in a browser only. The mirrors are other people's, which the
# SHA-256 makes harmless.
_BEATS_MIRRORS = (
    f"{_HUB}/datasets/Bencr/beats-checkpoints/resolve/main/",
    f"{_HUB}/lpepino/beats_ckpts/resolve/main/",
)
_ZENODO = 3987831


# The file alone: that repository's code has another licence than the weights.
_MERL = "https://github.com/merlresearch/noise-aware-audio-ssl/releases/download/v1.0.0"


def _beats(file: str, sha256: str, size: int | None, urls: tuple[str, ...] = ()) -> Checkpoint:
    return Checkpoint(
        file=file,
        backbone="beats",
        source="github.com/microsoft/unilm, folder beats",
        urls=(*urls, *(mirror + file for mirror in _BEATS_MIRRORS)),
        licence="MIT",
        paper="Chen et al. 2023, arXiv 2212.09058",
        sha256=sha256,
        size=size,
    )


def _panns(variant: str, score: str, sha256: str, md5: str, size: int | None) -> Checkpoint:
    file = f"{variant}_mAP={score}.pth"
    records = f"records/{_ZENODO}/files/{quote(file)}"
    return Checkpoint(
        file=file,
        backbone="panns",
        variant=variant,
        source=f"Zenodo record {_ZENODO}",
        urls=(f"https://zenodo.org/{records}", f"https://zenodo.org/api/{records}/content"),
        licence="CC BY 4.0",
        paper="Kong et al. 2020, arXiv 1912.10211",
        sha256=sha256,
        md5=md5,
        size=size,
    )


def _efficientat(variant: str, score: int, sha256: str = "", size: int | None = None) -> Checkpoint:
    file = f"{variant}_as_mAP_{score}.pt"
    return Checkpoint(
        file=file,
        backbone="efficientat",
        variant=variant,
        source="the releases of github.com/fschmid56/EfficientAT, v0.0.1",
        urls=(f"https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{file}",),
        licence="MIT",
        paper="Schmid et al. 2023, arXiv 2211.04772",
        sha256=sha256,
        size=size,
    )


def _hub(backbone: str, variant: str, model: str, licence: str, paper: str) -> Checkpoint:
    """Describe a hub's model that is one file; it gets a name of its own, since the hub's are all alike."""
    return Checkpoint(
        file=f"{model.rpartition('/')[2]}.safetensors",
        backbone=backbone,
        variant=variant,
        source=f"the Hugging Face hub, {model}",
        urls=(f"{_HUB}/{model}/resolve/main/model.safetensors",),
        licence=licence,
        paper=paper,
    )


BEATS = (
    _beats(
        "BEATs_iter3.pt",
        "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34",
        361_499_833,
        (f"{_MERL}/BEATs_iter3.pt",),
    ),
    _beats(
        "BEATs_iter3_plus_AS2M.pt",
        "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34",
        361_499_833,
    ),
    _beats(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1.pt",
        "7f9362028ac6e5c049e8dc314d87e90e4f82a15a8e472deb56af55d7f9b34d6a",
        363_145_291,
    ),
    _beats(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
        "e5815275a04b6885e7b8af63d120b29bffae2cd2225cf4915e1ec6d819d3022c",
        None,
    ),
    Checkpoint(  # the mirror is another's, as of the others; larger ones: shikhar7ssu/OpenBEATs-*
        file="OpenBEATs-Base-i3.pt",
        backbone="beats",
        source="the Hugging Face hub, shikhar7ssu/OpenBEATs-Base-i3",
        urls=(f"{_BEATS_MIRRORS[0]}OpenBEATs-Base-i3.pt",),
        licence="CC BY 4.0",
        paper="Bharadwaj et al. 2025, arXiv 2507.14129",
    ),
)
PANNS = (
    _panns(
        "Cnn14_16k",
        "0.438",
        "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        "362fc5ff18f1d6ad2f6d464b45893f2c",
        358_668_570,
    ),
    _panns(
        "Cnn14",
        "0.431",
        "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        "541141fa2ee191a88f24a3219fff024e",
        327_428_481,
    ),
    _panns("Cnn10", "0.380", "", "bfb1f1f9968938fa8ef4012b8471f5f6", 25_237_595),
    _panns("Cnn6", "0.343", "", "e25e26b84585b14c7754c91e48efc9be", None),
)
EFFICIENTAT = (
    _efficientat("mn04", 432, "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c", 4_066_513),
    _efficientat("mn10", 471, "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e", 19_708_753),
    _efficientat("mn01", 298),
    _efficientat("mn02", 378),
    _efficientat("mn05", 443),
    _efficientat("mn20", 478),
    _efficientat("mn30", 482),
    _efficientat("mn40", 484),
)
_EAT_PAPER, _SSLAM_PAPER = "Chen et al. 2024, arXiv 2401.03497", "Alex et al. 2025, ICLR"
EAT = (
    _hub("eat", "base", "worstchan/EAT-base_epoch30_pretrain", "MIT", _EAT_PAPER),
    _hub("eat", "base-finetuned", "worstchan/EAT-base_epoch30_finetune_AS2M", "MIT", _EAT_PAPER),
    _hub("eat", "large", "worstchan/EAT-large_epoch20_pretrain", "MIT", _EAT_PAPER),
    _hub("eat", "large-finetuned", "worstchan/EAT-large_epoch20_finetune_AS2M", "MIT", _EAT_PAPER),
    _hub("eat", "sslam", "ta012/SSLAM_pretrain", "MIT", _SSLAM_PAPER),
    _hub("eat", "sslam-finetuned", "ta012/SSLAM_AS2M_Finetuned", "MIT", _SSLAM_PAPER),
)
# The publisher's cloud; no licence of the weights could be read there or in the repository.
_FISHER_LICENCE = "weights: no licence stated, ask the authors; code: MIT"


def _fisher(variant: str, share: str) -> Checkpoint:
    return Checkpoint(
        file=f"FISHER-{variant}-0723.pt",
        backbone="fisher",
        variant=variant,
        source=f"github.com/jianganbai/FISHER; also the Hugging Face hub, jiangab/FISHER-{variant}-0723",
        urls=(f"https://cloud.tsinghua.edu.cn/f/{share}/?dl=1",),
        licence=_FISHER_LICENCE,
        paper="Fan et al. 2025, arXiv 2507.16696",
    )


FISHER = (
    _fisher("small", "f997a6932b614046915e"),
    _fisher("mini", "60b3bfc0977f45f48dff"),
    _fisher("tiny", "630a4b1b2962481a9150"),
)
CED = tuple(
    _hub("ced", size, f"mispeech/ced-{size}", "Apache-2.0", "Dinkel et al. 2023, arXiv 2308.11957")
    for size in ("tiny", "mini", "small", "base")
)
AST_MODEL, AST_REVISION = (
    "MIT/ast-finetuned-audioset-10-10-0.4593",
    "f826b80d28226b62986cc218e5cec390b1096902",
)
AST = Checkpoint(
    file="model.safetensors",
    backbone="ast",
    source=f"the Hugging Face hub, {AST_MODEL} at {AST_REVISION}",
    urls=(),
    licence="BSD-3-Clause",
    paper="Gong et al. 2021, arXiv 2104.01778",
    sha256="ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d",
    size=346_404_948,
    model=AST_MODEL,
)
CHECKPOINTS = (*BEATS, *PANNS, *EFFICIENTAT, *EAT, *FISHER, *CED, AST)


def path_of(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies once it is fetched."""
    return home() / "weights" / checkpoint.file


def with_hashes(wanted: Selection) -> Selection:
    """Name weights by their hashes, as recipes do, where a user named files.

    A name that is no file may be a checkpoint's, whose published hash is meant, or the beginning of
    a hash, as earlier versions took it.

    Raises
    ------
    AsdError
        If it is none of these.
    """
    return replace(wanted, weights=(), weights_hash=(*wanted.weights_hash, *map(_hash_of, wanted.weights)))


def _hash_of(text: str) -> str:
    path, checkpoint = located(text), find(text)
    if path.is_file():
        return file_sha256(path)
    if checkpoint is not None and checkpoint.sha256:
        return checkpoint.sha256
    if re.fullmatch("[0-9a-f]{4,64}|random", text):
        return text
    raise AsdError(
        f"--weights {text}: no such file and no known checkpoint; give the file, a name of "
        "`python -m extractors.weights list`, or --weights-hash"
    )


def located(text: str) -> Path:
    """Find the file meant by ``--weights``: a path, or else the place of a checkpoint so named."""
    path, checkpoint = Path(text), find(text)
    return path if checkpoint is None or path.exists() else path_of(checkpoint)
