"""The world model as the planner sees it: the same heads, their larger layers multiplied by oneDNN, in fp32 or in bf16.

With AVX-512, on AMD's processors oneDNN multiplies fp32 twice as fast as MKL, which torch takes for it; and it gives a
row the same numbers whatever else is in the batch. In bf16, small layers, the latents and all that is decoded stay
fp32: plans differ by little beside what they are worth.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ami_agent.world_model.latent import LatentModel

Precision = Literal["auto", "fp32", "bf16"]

ONEDNN = torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_supported()
LEAST = 8192  # weights of a layer for which oneDNN, or bf16, is worth its overhead
WIDE = 512  # hidden layers for which bf16 is worth its rounding


class Inference:
    """`view` answers as `model` does, only faster. Its weights are the model's own or, in bf16, copies of them."""

    def __init__(self, model: LatentModel, precision: Precision = "auto") -> None:
        on_cpu = model.unit.device.type == "cpu"
        pays = on_cpu and ONEDNN and torch.cpu._is_avx512_bf16_supported() and model.config.width >= WIDE
        self.half = precision == "bf16" or (precision == "auto" and pays)
        self._nets: list[Net] = []

        def net(layers: Any) -> Net:
            self._nets.append(Net(layers, self.half, ONEDNN and on_cpu))
            return self._nets[-1]

        self.view = copy.copy(model)
        self.view._modules = {
            **model._modules,
            **{name: net(getattr(model, name)) for name in ("reward_head", "end_head", "policy")},
            "critics": nn.ModuleList([net(critic) for critic in model.critics]),
            "dynamics": nn.Sequential(net(model.dynamics[0]), *list(model.dynamics)[1:]),
        }
        self._copies = [pair for one in self._nets for layer in one.layers for pair in layer.copies]
        self._seen: tuple[int, int] | None = None

    @torch.no_grad()
    def refresh(self, updates: int) -> None:
        """Copy the weights anew if they were learned, which `updates` counts, or loaded since the last time.

        Torch counts what is written to a tensor, but not what Adam's fused kernel writes.
        """
        if not self._copies:
            return
        seen = (updates, sum(weight._version for weight, _ in self._copies))
        if seen != self._seen:
            for weight, half in self._copies:
                half.copy_(weight)
            self._seen = seen


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
        self.copies = list(zip(weights, self._weights, strict=True)) if half and large else []

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias, *norm = self._weights
        x = x.to(self._dtype)
        if self._onednn:
            x = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
        else:
            x = F.linear(x, weight, bias)
        return F.silu(F.layer_norm(x, bias.shape, norm[0], norm[1]), inplace=True) if norm else x
