"""Tell an abnormal machine sound from a normal one, without ever having recorded an abnormal one.

Normal recordings in, a verdict on new ones out:

>>> import numpy as np
>>> from machine_asd import Detector
>>> rng = np.random.default_rng(0)
>>> normal = [rng.normal(0, 0.1, 16_000) for _ in range(30)]  # or "pump/normal", a folder of files
>>> detector = Detector("logmel").fit(normal, rate=16_000)
>>> hum = normal[0] + np.sin(np.arange(16_000) / 9)
>>> results = detector.score([normal[1], hum], rate=16_000)
>>> [clip.decision for clip in results]  # 1 is abnormal
[0, 1]
>>> results.to_pandas()[["clip", "decision"]].shape
(2, 2)

`Detector` is the whole chain for one machine. The chain's stages, for data sets of many machines, are
functions: each takes one request, whose fields are the options of the command of the same name (`asd
extract --help`), and returns what it did. None prints, parses arguments or exits; what they have to say
goes to `logging`, under the names of the packages, and what is wrong is raised as an `AsdError`, which
names the value, what was expected and a remedy.

==========  ===================================  ========================================================
stage       takes, returns                       from what to what
==========  ===================================  ========================================================
`extract`   `ExtractRequest`, `ExtractResult`    recordings to embedding tables in a cache folder
`train`     `TrainRequest`, `TrainResult`        a backbone to its weights, tuned on normal recordings
`build`     `BuildRequest`, `BuildResult`        training tables to a bank: a fitted scorer a machine
`evaluate`  `EvaluateRequest`, `EvaluateResult`  test tables to scores, figures, a page: the next three
`score`     `ScoreRequest`, `ScoreResult`        a bank and test tables to submission files
`judge`     `JudgeRequest`, `JudgeResult`        submission files, anybody's, to the official figures
`report`    `ReportRequest`, `ReportResult`      these to tables and a page
==========  ===================================  ========================================================

>>> import soundfile
>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from machine_asd import BuildRequest, EvaluateRequest, ExtractRequest, build, evaluate, extract
>>> place = Path(mkdtemp())
>>> for folder, sounds in (("normal", normal), ("new", [hum])):
...     (place / "data" / "pump" / folder).mkdir(parents=True)
...     for i, sound in enumerate(sounds):
...         soundfile.write(place / "data" / "pump" / folder / f"{i:02d}.wav", sound, 16_000)
>>> cache = place / "cache"
>>> len(extract(ExtractRequest(data=(place / "data",), backbone=("logmel",), cache_dir=cache)).faults)
0
>>> [str(section) for section in build(BuildRequest(cache_dir=cache)).sections]
['pump/section_00']
>>> evaluate(EvaluateRequest(cache_dir=cache, out=place / "results")).left_out
()
>>> (place / "results" / "report.html").is_file()
True

Nothing else of the packages beside this module is meant to be imported: it may change with any version.
Importing this module loads none of them; a name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` finds, for editors and type checkers
    from cache.base.errors import AsdError
    from cache.store import Store
    from eval.detector import Detector
    from eval.evaluate import EvaluateResult, evaluate
    from eval.judge import JudgeRequest, JudgeResult, judge
    from eval.report import ReportRequest, ReportResult, report
    from eval.request import EvaluateRequest
    from eval.results.folder import ResultsFolder
    from eval.score import ScoreRequest, ScoreResult, score
    from eval.scoring.findings import ClipResult, Neighbour, Results
    from extractors.extract import ExtractResult, extract
    from extractors.request import ExtractRequest
    from finetune.request import TrainRequest
    from finetune.train import TrainResult, train
    from index.bank import Bank
    from index.build import BuildResult, build
    from index.request import BuildRequest

__all__ = [
    "AsdError",
    "Bank",
    "BuildRequest",
    "BuildResult",
    "ClipResult",
    "Detector",
    "EvaluateRequest",
    "EvaluateResult",
    "ExtractRequest",
    "ExtractResult",
    "JudgeRequest",
    "JudgeResult",
    "Neighbour",
    "ReportRequest",
    "ReportResult",
    "Results",
    "ResultsFolder",
    "ScoreRequest",
    "ScoreResult",
    "Store",
    "TrainRequest",
    "TrainResult",
    "build",
    "evaluate",
    "extract",
    "judge",
    "list_backbones",
    "list_scorers",
    "report",
    "score",
    "train",
]

# Module to what comes from it.
_PLACES = {
    "cache.base.errors": "AsdError",
    "cache.store": "Store",
    "eval.detector": "Detector",
    "eval.evaluate": "EvaluateResult evaluate",
    "eval.request": "EvaluateRequest",
    "eval.scoring.findings": "ClipResult Neighbour Results",
    "eval.judge": "JudgeResult JudgeRequest judge",
    "eval.report": "ReportResult ReportRequest report",
    "eval.results.folder": "ResultsFolder",
    "eval.score": "ScoreResult ScoreRequest score",
    "extractors.extract": "ExtractResult extract",
    "extractors.request": "ExtractRequest",
    "finetune.request": "TrainRequest",
    "finetune.train": "TrainResult train",
    "index.bank": "Bank",
    "index.build": "BuildResult build",
    "index.request": "BuildRequest",
}


def list_backbones() -> list[str]:
    """Name the backbones there are, those of other installed packages among them.

    Returns
    -------
    list of str
        Ascending; none is loaded. `Detector` and `ExtractRequest` take them.

    Examples
    --------
    >>> {"beats", "logmel", "logspec"} <= set(list_backbones())
    True
    """
    from extractors import backbones  # noqa: PLC0415 (importing the face loads nothing)

    return backbones.names()


def list_scorers() -> list[str]:
    """Name the scorers there are, those of other installed packages among them.

    Returns
    -------
    list of str
        Ascending; none is loaded. `Detector` and `BuildRequest` take them.

    Examples
    --------
    >>> {"fusion", "min-distance"} <= set(list_scorers())
    True
    """
    from index import scorer  # noqa: PLC0415 (as above)

    return scorer.names()


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names.split():
            try:
                found = globals()[name] = getattr(import_module(module), name)
            except ModuleNotFoundError as error:
                from cache.base.errors import needed  # noqa: PLC0415 (as above)

                extra = "finetune" if module.startswith("finetune") else ""
                raise needed(f"machine_asd.{name}", error, extra) from error
            return found
    raise AttributeError(f"module 'machine_asd' has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
