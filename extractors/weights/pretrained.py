"""Models of transformers from their files: every key accounted for, nothing of them run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cache.base.errors import AsdError
from cache.base.text import integers
from extractors.backbone import ModelFile
from extractors.device import transformers
from extractors.weights.hub import Folder
from extractors.weights.loading import faults

# A model may have parts that the file leaves out, as CLAP's text tower, five times its audio tower.
_TIMES, _SPARE = 16, 2**26
_LARGEST = 2**24  # a number of an extractor; the largest known is Whisper's 480,000 samples
_FILTERS = 2**26  # values of an extractor's filter bank: 256 MiB of float32


def check_model(kept: ModelFile, config: dict[str, Any], build: Callable[[], nn.Module]) -> None:
    """Refuse a configuration that its own tensors contradict, before memory is taken.

    Parameters
    ----------
    kept
        The file.
    config
        Of the model.
    build
        Makes the model; called where tensors have sizes and no memory.

    Raises
    ------
    AsdError
        If it has more layers than the file has tensors, or 16 times the values of these and 2^26
        more.
    """
    for place, number in integers(config):
        name = place.rpartition(".")[2]
        if ("layers" in name or "depth" in name) and number > len(kept.state):
            raise AsdError(f"{kept.path}: its {place} is {number}, and it has {len(kept.state)} tensors")
    with torch.device("meta"):
        model = build()
    asked = sum(value.numel() for value in [*model.parameters(), *model.buffers()])
    held = sum(value.numel() for value in kept.state.values())
    if asked > _TIMES * held + _SPARE:
        raise AsdError(f"{kept.path}: its configuration asks for {asked} values, its tensors have {held}")


def check_extractor(kept: ModelFile, extractor: dict[str, Any]) -> None:
    """Refuse a feature extractor whose sizes are absurd, before memory is taken.

    Raises
    ------
    AsdError
        With the number.
    """
    for name, number in integers(extractor):
        if number > _LARGEST:
            raise AsdError(f"{kept.path}: its extractor's {name} is {number}, more than {_LARGEST}")
    window = max(_whole(extractor.get(name)) for name in ("n_fft", "fft_window_size"))
    bands = max(_whole(extractor.get(name)) for name in ("feature_size", "num_mel_bins"))
    if window * bands > _FILTERS:
        raise AsdError(f"{kept.path}: its extractor has {bands} bands of windows of {window}")


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True)
class Reading:
    """Which of a checkpoint's keys must fit a model.

    Attributes
    ----------
    parts
        Beginnings of the names of what is used; everything by default.
    heads
        Beginnings of the names that the checkpoint may hold beside the model; ``None`` for all
        that are under none of the model's own modules.
    optional
        Parameters that training alone uses.
    """

    parts: tuple[str, ...] = ("",)
    heads: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()


def load_model(folder: Folder, kind: str, reading: Reading) -> nn.Module:
    """Build a model with its weights in float32, for inference.

    Parameters
    ----------
    folder
        Its files; only safetensors are opened, and no code among them is run.
    kind
        Class of transformers.
    reading
        What must fit.

    Raises
    ------
    AsdError
        If files are missing or damaged, or keys missing, unexpected or of another shape.
    """
    folder.weights()  # says what is missing better than transformers does
    with readable(folder):
        network, report = getattr(transformers(), kind).from_pretrained(
            folder.path,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # so that all are reported; refused below
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    found = faults(_unfit(network, report, reading))
    if found:
        raise AsdError(f"{folder.name} does not fit {type(network).__name__}: {found}")
    ready: nn.Module = network.eval()
    return ready


def load_config(folder: Folder) -> Any:
    """Read a model's configuration.

    Raises
    ------
    AsdError
        If transformers knows no such model.
    """
    with readable(folder):
        return transformers().AutoConfig.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )


def load_extractor(folder: Folder) -> Any:
    """Build a model's own feature extractor.

    Raises
    ------
    AsdError
        If it has none for audio.
    """
    with readable(folder):
        found = transformers().AutoFeatureExtractor.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    if not isinstance(getattr(found, "sampling_rate", None), int):
        raise AsdError(f"{folder.name} is no audio model: {type(found).__name__} takes no waveform")
    return found


def as_json(described: Any) -> dict[str, Any]:
    """Turn a configuration, or a feature extractor, of transformers into plain JSON."""
    plain: dict[str, Any] = json.loads(described.to_json_string())
    return plain


def build_model(kept: ModelFile, kind: str) -> Any:
    """Build a fine-tuned model as its configuration says, its parameters still to be filled in.

    Parameters
    ----------
    kept
        Its blueprint holds the ``config``.
    kind
        Class of transformers, ``AutoModel`` for the configuration's own.

    Raises
    ------
    AsdError
        If transformers knows no such model, or its sizes are not those of the file's tensors.
    """
    with readable(Folder(kept.path, str(kept.path))):
        kinds = transformers()
        given = dict(kept.blueprint["config"])
        config = kinds.AutoConfig.for_model(given.pop("model_type"), **given)

        def build() -> Any:
            if kind != "AutoModel":
                return getattr(kinds, kind)(config)
            return kinds.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)

        check_model(kept, given, build)
        model = build()
    return model.eval()


def build_extractor(kept: ModelFile) -> Any:
    """Build a fine-tuned model's feature extractor from the blueprint's ``extractor``.

    Raises
    ------
    AsdError
        If transformers knows no such extractor, or its sizes are absurd.
    """
    given = dict(kept.blueprint["extractor"])
    check_extractor(kept, given)
    name = str(given.get("feature_extractor_type"))
    kind = getattr(transformers(), name, None) if name.isidentifier() else None
    if kind is None or not name.endswith("FeatureExtractor"):
        raise AsdError(f"{kept.path}: transformers has no feature extractor {name!r}")
    with readable(Folder(kept.path, str(kept.path))):
        return kind.from_dict(given)


@contextmanager
def readable(folder: Folder) -> Iterator[None]:
    """Keep transformers' reports off the screen, and make one line of whatever it raises.

    Raises
    ------
    AsdError
        If it cannot make anything of the files.
    """
    logging = transformers().utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except AsdError:
        raise
    except Exception as error:
        text = str(error).strip()
        reason = text.splitlines()[0] if text else type(error).__name__
        raise AsdError(f"{folder.name} cannot be loaded: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _unfit(network: Any, report: Mapping[str, Any], reading: Reading) -> dict[str, list[str]]:
    """Keys that do not fit, by kind, as `Reading` sees it."""
    prefix = f"{network.base_model_prefix}."
    modules = {name for name, _ in network.named_children()}

    def is_head(key: str) -> bool:
        if reading.heads is not None:
            return key.startswith(reading.heads)
        name = key.removeprefix(prefix)
        return name.split(".")[0] not in modules or not name.startswith(reading.parts)

    missing = [
        key for key in report["missing_keys"] if key.startswith(reading.parts) and key not in reading.optional
    ]
    reshaped = [key for key, *_ in report["mismatched_keys"] if key.startswith(reading.parts)]
    return {
        "missing": sorted(missing),
        "unexpected": sorted(key for key in report["unexpected_keys"] if not is_head(key)),
        "of another shape": sorted(reshaped),
    }
