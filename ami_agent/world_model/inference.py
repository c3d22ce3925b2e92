"""The world model as the planner sees it: the same heads, their larger layers multiplied by oneDNN, in fp32 or in bf16.

With AVX-512, on AMD's processors oneDNN multiplies fp32 twice as fast as MKL, which torch takes for it; and it gives a
row the same numbers but for rounding (1e-6), whatever else is in the batch. In bf16, small layers, the latents and all
that is decoded stay fp32: plans differ by little beside what they are worth.
"""

from __future__ import annotations

import copy
from typing import Literal, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ami_agent.world_model.latent import LatentModel

Precision = Literal["auto", "fp32", "bf16"]

ONEDNN = torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_supported()
LEAST = 8192  # weights of a layer for which oneDNN, or bf16, is worth its overhead
WIDE = 512  # hidden layers for which bf16 is worth its rounding
HEADS = ("dynamics", "reward_head", "end_head", "critics", "policy")  # what planning takes its time for


class Inference:
    """`view` answers as `model` does, only faster. Its weights are the model's own or, in bf16, copies of them.

    Heads that are not made like those of `LatentModel` answer themselves.
    """

    def __init__(self, model: LatentModel, precision: Precision = "auto") -> None:
        self._model, self._precision = model, precision
        self.view = copy.copy(model)
        self._build()

    @torch.inference_mode(False)
    def _build(self) -> None:
        """Make the nets of the view, from the weights where they lie now."""
        model = self._model
        on_cpu = model.unit.device.type == "cpu"
        pays = on_cpu and ONEDNN and torch.cpu._is_avx512_bf16_supported() and model.config.width >= WIDE
        self.half = self._precision == "bf16" or (self._precision == "auto" and pays)
        self._onednn = ONEDNN and on_cpu
        heads = {name: getattr(model, name) for name in HEADS}
        self._owners = [part for head in heads.values() for part in head.modules() if part._parameters]
        self._places = self._lie()
        self._nets: list[Net] = []
        self.view._modules = {**model._modules, **{name: self._fast(head) for name, head in heads.items()}}
        self._copies = [pair for net in self._nets for layer in net.layers for pair in layer.copies]
        self._seen: tuple[int, int] | None = None

    def _fast(self, head: nn.Module) -> nn.Module:
        """The head with a `Net` for each `mlp` in it."""
        if known(head):
            self._nets.append(Net(head, self.half, self._onednn))
            return self._nets[-1]
        if type(head) is nn.Sequential:
            return nn.Sequential(*(self._fast(part) for part in head))
        return nn.ModuleList([self._fast(part) for part in head]) if type(head) is nn.ModuleList else head

    def _lie(self) -> list[int]:
        """Where the model's weights lie."""
        return [w.data_ptr() for owner in self._owners for w in owner._parameters.values() if w is not None]

    @torch.no_grad()
    def refresh(self, updates: int) -> bool:
        """Copy the weights anew if they were learned, which `updates` counts, or loaded since the last time.

        Torch counts what is written to a tensor, but not what Adam's fused kernel writes. True if the weights lie
        elsewhere than the last time, as on another device: then a CUDA graph made before is of no use.
        """
        moved = self._lie() != self._places
        if moved:
            self._build()
        if self._copies:
            seen = (updates, sum(weight._version for weight, _ in self._copies))
            if seen != self._seen:
                for weight, half in self._copies:
                    half.copy_(weight)
                self._seen = seen
        return moved


def known(net: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether it is as `mlp` makes them: linear layers, each but the last with LayerNorm and SiLU."""
    kinds = (nn.Linear, nn.LayerNorm, nn.SiLU)
    if type(net) is not nn.Sequential or len(net) % 3 != 1:
        return False
    return all(type(part) is kinds[i % 3] and usual(part) for i, part in enumerate(net))


def usual(part: nn.Module) -> bool:
    """Whether a layer has a weight and a bias, as they are, and if it is a LayerNorm one axis and torch's eps."""
    named = [name for name, _ in part.named_parameters()]
    if isinstance(part, nn.LayerNorm):
        return named == ["weight", "bias"] and len(part.normalized_shape) == 1 and part.eps == 1e-5
    return named == (["weight", "bias"] if isinstance(part, nn.Linear) else [])


class Net(nn.Module):
    """An `mlp` of the world model."""

    def __init__(self, net: nn.Sequential, half: bool, onednn: bool) -> None:
        super().__init__()
        self.layers = [Layer(half, onednn, *list(net)[i : i + 2]) for i in range(0, len(net), 3)]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        for layer in self.layers:
            rows = layer(rows)
        return rows.view(*x.shape[:-1], -1).float()


class Layer:
    """A linear layer, and if it is a hidden one its LayerNorm and SiLU."""

    def __init__(self, half: bool, onednn: bool, *parts: nn.Module) -> None:
        weights = [weight for part in parts for weight in part.parameters()]
        large = weights[0].numel() >= LEAST
        self._dtype, self._onednn = torch.bfloat16 if half and large else torch.float32, onednn and large
        self._weights = [weight.detach().to(self._dtype) for weight in weights]
        pairs = zip(weights, self._weights, strict=True)
        self.copies = [(weight, own) for weight, own in pairs if weight.dtype != own.dtype]

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias, *norm = self._weights
        x = x.to(self._dtype)
        if self._onednn:
            x = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
        else:
            x = F.linear(x, weight, bias)
        return F.silu(F.layer_norm(x, bias.shape, norm[0], norm[1]), inplace=True) if norm else x
