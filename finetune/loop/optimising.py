"""One step of the optimizer: rates by block and time, portions that fit, several devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.base.errors import AsdError, listing
from extractors.device import is_out_of_memory, transformers
from extractors.embedding.precision import exact
from finetune.data.batches import Batches, seed_of
from finetune.model.learner import Learner
from finetune.model.scope import TrainingScope
from finetune.request import PRECISIONS, Portions, Rates

_NAMED = 16  # clips of a batch that a message names


@dataclass
class Optimising:
    """A learner under AdamW.

    Attributes
    ----------
    learner, opened
        The model and which of its parameters are trained.
    batches
        The data.
    rates, portions
        How.
    """

    learner: Learner
    opened: TrainingScope
    batches: Batches
    rates: Rates
    portions: Portions

    @cached_property
    def accelerator(self) -> Any:
        """Devices, number format, several processes."""
        transformers()  # accelerate imports it, and it looks for torchaudio
        from accelerate import Accelerator  # noqa: PLC0415

        cpu = next(self.learner.parameters()).device.type == "cpu"
        return Accelerator(mixed_precision=PRECISIONS[self.portions.precision], cpu=cpu)

    @cached_property
    def model(self) -> nn.Module:
        """The learner as its devices want it."""
        return self._prepared[0]

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, with a group of parameters a block."""
        return self._prepared[1]

    def exact(self) -> AbstractContextManager[object]:
        """Keep in float32 what the number format would falsify; see `extractors.embedding.precision`."""
        return exact(self.accelerator.device, getattr(torch, self.portions.precision))

    @property
    def clips_a_step(self) -> int:
        """Clips of one step over all devices."""
        portions = self.portions
        return portions.batch * portions.accumulate * int(self.accelerator.num_processes)

    def step(self, rows: NDArray[np.int64], place: tuple[int, int], factor: float) -> float:
        """Take one step.

        Parameters
        ----------
        rows
            Its clips, those of all devices.
        place
            Epoch and step, from 0; what is random follows from it.
        factor
            Of the learning rates.

        Returns
        -------
        float
            Mean loss of this device's clips.

        Raises
        ------
        AsdError
            If the loss is not finite, or the memory does not hold a portion.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        processes, rank = int(self.accelerator.num_processes), int(self.accelerator.process_index)
        own = rows[rank::processes] if len(rows) >= processes else rows
        size, total = self.portions.batch, 0.0
        parts = [own[i : i + size] for i in range(0, len(own), size)]
        for number, part in enumerate(parts):
            last = number + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                share = len(part) / len(own)
                total += share * self._passed(part, (*place, rank, number), share)
        self.accelerator.clip_grad_norm_(self._trained, self.rates.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    @cached_property
    def _prepared(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        groups = [group | {"base": group["lr"]} for group in self._groups()]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.rates.weight_decay)
        model, prepared = self.accelerator.prepare(self.learner, optimizer)
        return model, prepared

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.learner.parameters() if parameter.requires_grad]

    def _groups(self) -> list[dict[str, Any]]:
        top, rates = len(self.opened.parameters) - 1, self.rates
        groups: list[dict[str, Any]] = [
            {"params": list(parameters), "lr": rates.network * rates.decay ** (top - block)}
            for block, parameters in enumerate(self.opened.parameters)
        ]
        network = {id(parameter) for parameter in self.learner.network.parameters()}
        new = [parameter for parameter in self._trained if id(parameter) not in network]
        groups.append({"params": new, "lr": rates.head})
        return [group for group in groups if group["params"]]

    def _passed(self, rows: NDArray[np.int64], place: tuple[int, ...], share: float) -> float:
        """Run a portion forth and back, and return its loss."""
        try:
            inputs, mixture = self.batches.made(rows.tolist(), self.learner.backbone, place)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of(self.batches.seed, *place))
                with self.exact():
                    loss: Tensor = self.model(inputs, mixture)
            if not torch.isfinite(loss):
                names = [self.batches.waveforms.clips[row].clip_id for row in rows.tolist()]
                raise AsdError(
                    f"the loss is {loss.item()} in epoch {place[0] + 1}, step {place[1] + 1}, of the "
                    f"clips {listing(names, _NAMED)}; look at them, or lower --learning-rate"
                )
            self.accelerator.backward(loss * share)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            half, steps = max(1, self.portions.batch // 2), self.portions.accumulate * 2
            raise AsdError(
                "no memory for a single clip: shorten --crop, train lora or last, or a smaller model"
                if len(rows) == 1 else f"no memory for {len(rows)} clips at once; --batch-size {half} "
                f"--accumulate {steps} makes the same steps in smaller portions"
            ) from error  # fmt: skip
        return loss.item()
