"""Networks, and front ends with them, as ONNX graphs: functions of torch, traced."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cache.base.errors import AsdError
from cache.files.atomic import scratch_folder
from extractors.backbone import Features, Inputs, NetworkBackbone

OPSET = 20
_TRACING = threading.Lock()  # the exporter's state is the process's


def modules_of(backbone: object) -> nn.ModuleDict:
    """Collect a backbone's networks, those of a backbone inside it too."""
    found = nn.ModuleDict()
    for name, value in vars(backbone).items():
        if isinstance(value, nn.Module):
            found[name.strip("_")] = value
        elif isinstance(value, NetworkBackbone):
            found[name.strip("_")] = modules_of(value)
    return found


class _Traced(nn.Module):
    """What is exported: a function, and the modules it calls, registered as what has parameters."""

    def __init__(self, modules: nn.ModuleDict, function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.held, self._function = modules, function

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        return self._function(values)


def exported(
    name: str, modules: nn.ModuleDict, function: Callable[[Tensor], tuple[Tensor, ...]], values: Tensor
) -> bytes:
    """Export a function of one tensor as ONNX, for values of this shape.

    With gradients on, networks compute as they are defined, without what pays on a CPU of torch alone
    (convolutions by spectra or in Winograd's way, clip by clip). The exporter that traces is used: the one
    that goes through torch.export gives the same graph and takes ten times as long.

    Parameters
    ----------
    name
        Of the backbone, for messages.
    modules
        That the function calls.
    function
        Its tensors are the graph's outputs.
    values
        An example.
    """
    with ExitStack() as stack:
        path = stack.enter_context(scratch_folder()) / "network.onnx"
        for state in (
            _TRACING, torch.inference_mode(mode=False), torch.enable_grad(), warnings.catch_warnings(),
        ):  # fmt: skip
            stack.enter_context(state)
        warnings.simplefilter("ignore")  # of shapes that become constants, which is what is wanted
        example = values.detach().cpu().clone()
        # A constant array stays one.
        torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
            "aten::lift_fresh", lambda _, value: value, OPSET
        )
        try:
            traced = _Traced(modules, function).eval()
            torch.onnx.export(
                traced, (example,), path, dynamo=False, opset_version=OPSET, input_names=["input"]
            )
            return path.read_bytes()
        except (RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise AsdError(f"{name} cannot be exported as ONNX ({reason}); use --engine local") from error


class _Spectrum:
    """A complex tensor as its two parts: ONNX has no complex numbers."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    def abs(self) -> Tensor:
        return (self.real.square() + self.imag.square()).sqrt()


class _FrontEnds(TorchFunctionMode):
    """Lets front ends be exported: transforms as products, in float64, and frames by one lookup."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.fft.rfft:
            frames = args[0]
            angles = torch.arange(frames.shape[-1])[:, None] * torch.arange(frames.shape[-1] // 2 + 1)
            turns = angles.double() * (2 * torch.pi / frames.shape[-1])
            return _Spectrum(*((frames.double() @ wave).float() for wave in (turns.cos(), -turns.sin())))
        if func is Tensor.unfold:
            signal, _, size, step = args  # along the last axis
            count = (signal.shape[-1] - size) // step + 1
            return signal[..., torch.arange(count)[:, None] * step + torch.arange(size)]
        return func(*args, **(kwargs or {}))


class Exportable(NetworkBackbone):
    """A backbone whose front end can be exported."""

    def __init__(self, backbone: NetworkBackbone) -> None:
        self.spec, self._backbone = backbone.spec, backbone

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Run the front end in operations that ONNX has."""
        with _FrontEnds():
            return self._backbone.inputs(waveforms)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Run the network."""
        return self._backbone.states(inputs, layers)
