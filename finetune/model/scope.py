"""What of a network is trained: all of it, the last blocks, or low-rank adapters beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.base import options
from cache.base.errors import AsdError
from cache.base.options import option
from extractors.backbone import Trainable
from extractors.device import transformers

if TYPE_CHECKING:
    from torch import nn

_ADAPTER = "default"


@dataclass(frozen=True)
class TrainingScope:
    """A network made ready for training.

    Attributes
    ----------
    trainable
        The network and its facts.
    parameters
        What is trained, by block: ``parameters[k]`` are those of ``trainable.blocks[k]``, adapters
        included, up to the layer that the loss is taken from.
    """

    trainable: Trainable
    parameters: tuple[tuple[nn.Parameter, ...], ...]

    def close(self) -> None:
        """Merge adapters into the weights they stand beside, and lay everything together again."""
        for name, module in list(self.trainable.network.named_modules()):
            if hasattr(module, "lora_A"):
                module.merge()
                parent, _, child = name.rpartition(".")
                owner = self.trainable.network.get_submodule(parent)
                setattr(owner, child, module.get_base_layer())
        self.trainable.together()


@dataclass(frozen=True)
class Scope(ABC):
    """A choice of what is trained; out of range options raise an `AsdError`."""

    def __post_init__(self) -> None:
        options.check_ranges(type(self), options.options_of(self))

    @abstractmethod
    def open(self, trainable: Trainable, layer: int) -> TrainingScope:
        """Mark what is trained, everything else is frozen.

        Parameters
        ----------
        trainable
            The network and its facts.
        layer
            The layer that the loss is taken from; nothing above it is trained.
        """


@dataclass(frozen=True)
class Full(Scope):
    """Everything up to the layer."""

    def open(self, trainable: Trainable, layer: int) -> TrainingScope:
        """See `Scope.open`."""
        return _opened(trainable, layer, 0)


@dataclass(frozen=True)
class Last(Scope):
    """The last blocks up to the layer."""

    blocks: int = option(2, "how many", least=1, most=1000)

    def open(self, trainable: Trainable, layer: int) -> TrainingScope:
        """See `Scope.open`."""
        return _opened(trainable, layer, max(0, layer + 1 - self.blocks))


@dataclass(frozen=True)
class Lora(Scope):
    """Low-rank adapters: Hu et al. 2021, arXiv 2106.09685; ``W + alpha / r B A``, eq. 3.

    The published recipe for this task has r = 64 on queries and values (arXiv 2507.10264); alpha
    is this project's choice, so that the product counts as it is.
    """

    rank: int = option(64, "r, columns of A and rows of B", least=1, most=4096)
    alpha: int = option(64, "numerator of the factor alpha / r", least=1, most=1_000_000)
    targets: str = option("", "modules they join, with commas (default: the backbone's own)")

    def open(self, trainable: Trainable, layer: int) -> TrainingScope:
        """See `Scope.open`."""
        from torch import nn  # noqa: PLC0415 -- names of scopes are had without it

        trainable.apart()
        network = trainable.network
        wanted = tuple(self.targets.split(",")) if self.targets else trainable.lora
        names = [
            name
            for name, module in network.named_modules()
            if any(name == end or name.endswith(f".{end}") for end in wanted)
            and _block_of(f"{name}.", trainable.blocks[: layer + 1]) is not None
            and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        ]
        if not names:
            raise AsdError(
                f"no module up to layer {layer} is called {' or '.join(wanted) or 'anything'}; "
                "name others (--train lora:targets=...) or train another part"
            )
        self._join(network, names)
        return _opened(trainable, layer, 0, only="lora_")

    def _join(self, network: nn.Module, names: Sequence[str]) -> None:
        transformers()  # which peft imports, and which looks for torchaudio
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415

        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=list(names), lora_dropout=0.0,
            bias="none",
        )  # fmt: skip
        inject_adapter_in_model(config, network, _ADAPTER)


SCOPES: options.Kinds[Scope] = options.Kinds("--train", {"full": Full, "last": Last, "lora": Lora})


def _opened(trainable: Trainable, layer: int, first: int, only: str = "") -> TrainingScope:
    """Train the blocks from `first` to `layer`; of their parameters those named `only`."""
    import torch  # noqa: PLC0415

    found: list[list[nn.Parameter]] = [[] for _ in range(layer + 1)]
    for name, parameter in trainable.network.named_parameters():
        block = _block_of(name, trainable.blocks[: layer + 1])
        chosen = block is not None and block >= first and only in name
        parameter.requires_grad_(chosen and parameter.dtype == torch.float32)
        if chosen and block is not None:
            found[block].append(parameter)
    return TrainingScope(trainable, tuple(map(tuple, found)))


def _block_of(name: str, blocks: Sequence[tuple[str, ...]]) -> int | None:
    """Which block a parameter belongs to; ``None`` where it lies above the layer."""
    for number, beginnings in enumerate(blocks):
        if name.startswith(beginnings):
            return number
    return None
