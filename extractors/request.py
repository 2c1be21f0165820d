"""What an extraction is asked for; reading a command line loads nothing heavier than this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option, option_group
from cache.files.places import place
from cache.heard import LONGEST, Heard
from cache.select import cache_dir_option
from cache.table import SPLITS
from extractors import backbones
from extractors.clips.machine import SUPPLEMENTS
from extractors.fetching.offline import offline_option
from extractors.pooling import BANDS
from extractors.pooling import names as pooling_names

LOCAL, RAY, ONNX, OPENVINO = ENGINES = ("local", "ray", "onnx", "openvino")
GRAPHS = (ONNX, OPENVINO)  # engines that run exported networks
DTYPES = ("float32", "bfloat16", "float16")  # what a network computes in
INT8 = "int8"  # and what one that is exported may
AUTO = "auto"
_RAY_DEVICES = ("auto", "cpu", "cuda")  # Ray says which GPU is whose


def read_batch_size(text: str) -> int | None:
    """Read ``auto``, which is ``None``, or a whole number from 1."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) == 0:
        raise AsdError(f"--batch-size {text}: expected auto or a whole number from 1")
    return int(text)


def device_option() -> Any:
    """Declare ``--device``, the same in every command."""
    return option("auto", "auto, cpu, cuda, cuda:1, mps", metavar="NAME")


@documented
@dataclass(frozen=True, kw_only=True)
class ExtractRequest(Options):
    """Data roots, the tables wanted of them, and where they go."""

    data: tuple[Path, ...] = option(
        (), "data roots: folders of <machine>/<train|test>/*.wav, a machine's own folder, or "
        "manifests (.csv, .parquet)", read=place, metavar="ROOT",
    )  # fmt: skip
    backbone: tuple[str, ...] = option(
        ("logspec",), "{choices}", choices=backbones.names, named=True, metavar="NAME[:VARIANT]"
    )
    weights: tuple[str, ...] = option(
        (), "the backbone's checkpoint: a file or a name of extractors.weights list (default: its "
        "usual one, fetched at first use); random to time a model without one", metavar="FILE",
    )  # fmt: skip
    accept_weights: tuple[str, ...] = option(
        (), "use a file of this hash though another is published under its name", metavar="SHA256"
    )
    offline: bool = offline_option()
    doctor: bool = option(False, "see whether libraries, device, folders, weights and backbones work")
    layers: tuple[str, ...] = option(
        (), "layers to take, all from one pass (default: the backbone's own)", metavar="N"
    )
    pooling: tuple[str, ...] = option(
        (), "{choices} (default: the backbone's own)", choices=pooling_names, named=True,
        metavar="NAME[:KEY=VALUE...]",
    )  # fmt: skip
    bands: tuple[str, ...] = option(
        (),
        "merge or keep them (default: keep of beats, else merge)",
        choices=BANDS,
        named=True,
        metavar="WHAT",
    )
    machine: tuple[str, ...] = option((), "only these (default: all)", metavar="NAME")
    split: tuple[str, ...] = option((), "only these (default: both)", choices=SPLITS)
    supplemental: tuple[str, ...] = option(
        (), "take these clips of supplemental/ (2025) as normal training clips too",
        choices=SUPPLEMENTS,
    )  # fmt: skip
    heard: Heard = option_group(Heard)
    engine: str = option(
        LOCAL,
        "what runs the networks. local: torch in this process; onnx, openvino: ONNX Runtime or OpenVINO on "
        "the CPU, each network exported once a length of clips (extras of these names); ray: torch, table by "
        "table on the Ray cluster of RAY_ADDRESS, else on one of this machine alone (extra: ray). A start of "
        "Ray takes about 20 s: worth it on several machines or GPUs, from a minute or two of work",
        choices=ENGINES,
    )
    actors: int | None = option(
        None, "with --engine ray: processes that hold the backbones, a GPU each where the cluster "
        "has any, or an even part of one where it has fewer GPUs than these (default: one a table, as "
        "far as the cluster holds them)", least=1, metavar="N",
    )  # fmt: skip
    device: str = device_option()
    dtype: str = option(
        DTYPES[0], "of the network; auto measures, of 1000 clips or more, and takes a smaller one where it "
        "is 1.3 times as fast and scores rank the same; int8, of onnx and openvino, is calibrated on "
        "training clips and refused where scores rank otherwise", choices=(*DTYPES, INT8, AUTO),
    )  # fmt: skip
    batch_size: int | None = option(
        None, "clips a forward pass (default: auto, measured where it pays)",
        read=read_batch_size, metavar="N",
    )  # fmt: skip
    longest: float = option(
        LONGEST, "leave out what is longer and not cut by --window", least=1e-3,
        metavar="SECONDS",
    )  # fmt: skip
    strict: bool = option(False, "stop at the first clip that cannot be used")
    cache_dir: Path = cache_dir_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == LOCAL and self.actors is not None:
            raise AsdError(f"--actors {self.actors} is meant for a cluster: give --engine ray too")
        if self.engine == RAY and self.dtype == AUTO:
            raise AsdError(
                "--dtype auto: measured by one process, on its machine; of a cluster name the format"
            )
        self._check_format()
        if self.engine == RAY and self.device not in _RAY_DEVICES:
            raise AsdError(
                f"--device {self.device}: Ray gives each actor its own GPU; expected one of "
                f"{', '.join(_RAY_DEVICES)}"
            )

    def _check_format(self) -> None:
        if self.engine not in GRAPHS:
            if self.dtype == INT8:
                raise AsdError("--dtype int8: torch has none; give --engine onnx or openvino too")
            return
        if self.dtype in DTYPES[1:]:
            raise AsdError(f"--dtype {self.dtype}: {self.engine} computes in float32 or int8")
        if self.device not in ("auto", "cpu"):
            raise AsdError(f"--device {self.device}: {self.engine} computes on the cpu; leave it out")
