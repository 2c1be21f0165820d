"""What the task's baselines are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, documented, option, option_group
from cache.files.places import here, place
from cache.heard import Heard
from cache.select import ALL, cache_dir_option
from eval.request import PlaybackOptions
from extractors.request import device_option
from index.groups import check_grouping
from index.request import ThresholdOptions

if TYPE_CHECKING:
    from extractors.audio.hearing import Hearing

MODES = ("mse", "mahalanobis")
PAPER = "paper"  # the mode that runs both


def read_shrinkage(text: str) -> float | None:
    """Read ``auto``, which is ``None``, or a number from 0 to 1."""
    if text == "auto":
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1:
        raise AsdError(f"--shrinkage {text}: expected auto or a number from 0 to 1")
    return amount


@documented
@dataclass(frozen=True, kw_only=True)
class BaselineRequest(ThresholdOptions):
    """Data roots, which of the task's baselines to train on them, and where the results go.

    Beside its options: `command`, how this was called.
    """

    mode: str = option(
        REQUIRED,
        "mse: the mean squared error; mahalanobis: the smaller of two Mahalanobis distances; "
        "paper: both as published, beside the published tables of 2023",
        choices=(*MODES, PAPER),
    )
    form: str = option(
        "clip", "of mahalanobis: a distance a frame as printed, or one of the clip's mean residual "
        "as in the published numbers", choices=("frames", "clip"),
    )  # fmt: skip
    shrinkage: str = option("0", "of the covariances: 0, as published, to 1, or auto", metavar="A")
    data: tuple[Path, ...] = option(
        (), "data roots, each holding <machine>/<train|test>/*.wav", read=place, metavar="ROOT"
    )
    machine: tuple[str, ...] = option((), "only these (default: all)", metavar="NAME")
    heard: Heard = option_group(Heard)
    seeds: tuple[int, ...] = option((0, 1, 2, 3, 4), "a run each", least=0, metavar="N")
    epochs: int = option(100, "how often every vector is used", least=1, metavar="N")
    folds: int = option(
        2, "in which the threshold is learnt where clips were recorded together or are few, each a "
        "training without its clips; more make it less careful", least=2, metavar="N",
    )  # fmt: skip
    ground_truth: Path | None = option(
        None, "holds ground_truth_data ... (default: labels in the file names)", read=here,
        metavar="DIR",
    )  # fmt: skip
    device: str = device_option()
    jobs: int | None = option(
        None, "machines and seeds at once (default: one a core; 1 on a GPU)", least=1, metavar="N"
    )
    memory: float = option(1.0, "of frames held by each; more goes to a file", least=1e-6, metavar="GIB")
    report: bool = option(True, "write report.html of every run")
    map: str = option("pca", "how the report lays out clips", choices=("pca", "umap"))
    listen: int = option(
        PlaybackOptions.most, "clips a section that the report plays at most, and as many false alarms "
        "and as many misses",
        least=0, metavar="N",
    )  # fmt: skip
    out: Path = option(Path("baselines"), "where the results go", read=here, metavar="DIR")
    cache_dir: Path = cache_dir_option()
    command: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        amount = read_shrinkage(self.shrinkage)
        check_grouping(self.group)
        self.asked_percentile()  # two ways to ask, or no rate, are refused here
        self.hearing()
        if len(set(self.seeds)) < len(self.seeds):
            raise AsdError(f"--seeds {' '.join(map(str, self.seeds))}: each run needs its own")
        if self.ground_truth is not None and not self.ground_truth.is_dir():
            raise AsdError(f"--ground-truth {self.ground_truth} is not a folder")
        if not self.data and self.mode != PAPER:
            raise AsdError("--data is missing: give the folder that holds the machines")
        if self.mode == PAPER and (self.form != "clip" or amount != 0):
            raise AsdError("--mode paper scores as published: leave --form and --shrinkage out")

    def hearing(self) -> Hearing:
        """How recordings are heard: one channel of them, or what is made of several.

        Raises
        ------
        AsdError
            If several tables are asked for, or one that only embeddings can make.
        """
        from extractors.audio.hearing import hearings  # noqa: PLC0415 (a help page needs none)

        channel = self.heard.channel
        found = hearings(self.heard) if channel != ALL else []
        if len(found) != 1 or found[0].residual is not None:
            raise AsdError(
                f"--channel {channel}: the autoencoder hears one signal; expected average, near, far, "
                "cancel or a number"
            )
        return found[0]
