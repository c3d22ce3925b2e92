"""Perception: one encoder a sense, fused to one latent. A sense that is missing is left out, not crashed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ami_agent.errors import UsageError, check_ranges

OUTLANDISH = 1e5
GOAL_OFFSET = "goal_offset"  # desired_goal - achieved_goal: made here, for every environment that has goals


@dataclass(frozen=True)
class EncoderConfig:
    latent: int = 64
    """Size D of the latent."""
    width: int = 192
    """Width of the hidden layers."""
    group: int = 8
    """Size of the groups that SimNorm makes sum to one."""
    angles: bool = True
    """Take in angles that go round and round as sine and cosine."""

    def __post_init__(self) -> None:
        check_ranges(self, {"width": (4, 65_536), "group": (1, 65_536)})
        if self.latent < 8 or self.latent % self.group:
            raise UsageError(f"latent must be a multiple of {self.group}, at least 8; not {self.latent}")


class SimNorm(nn.Module):
    """Simplicial normalisation: softmax over groups of the latent (Lavoie et al. 2022; Hansen et al. 2024, TD-MPC2).

    Bounds the latent and keeps it from collapsing or exploding over imagined steps.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """A softmax written out: torch's own takes four times as long over axes as short as a group."""
        groups = x.unflatten(-1, (-1, self.group))
        powers = (groups - groups.detach().amax(-1, keepdim=True)).exp()
        return (powers / powers.sum(-1, keepdim=True)).flatten(-2)


class Normaliser(nn.Module):
    """Shifts and scales a sense by the mean and spread of experience; saved with the weights.

    An entry that hardly varies, by itself or beside the others of its sense, is taken for a constant and not scaled:
    what varies in it is noise. What is beyond `OUTLANDISH`, and as many times an entry's median, as where a sensor
    fails now and then, has no say in its scale, and is taken in as the most that there is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, values: Tensor) -> None:
        """values (n, size)."""
        usual = values.median(0).values
        values = torch.where(values.abs() <= OUTLANDISH * usual.abs().clamp(min=1.0), values, usual)
        mean, spread = values.mean(0), values.std(0)
        least = 1e-4 * spread.amax().clamp(max=1.0)
        varies = (spread > least) & (spread > 1e-6 * mean.abs())
        self.mean.copy_(mean)
        self.std.copy_(torch.where(varies, spread, torch.ones_like(spread)))

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.mean) / self.std).clamp(-10.0, 10.0)


class Entries(nn.Module):
    """What is taken in of a sense (..., size): all but `left_out`, with sine and cosine in place of `angles`."""

    kept: Tensor
    angles: Tensor

    def __init__(self, size: int, left_out: tuple[int, ...], angles: tuple[int, ...]) -> None:
        super().__init__()
        angles = tuple(entry for entry in angles if entry not in left_out)
        kept = [entry for entry in range(size) if entry not in left_out and entry not in angles]
        self.size = len(kept) + 2 * len(angles)
        self.register_buffer("kept", torch.tensor(kept, dtype=torch.long), persistent=False)
        self.register_buffer("angles", torch.tensor(angles, dtype=torch.long), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        kept, turned = values.index_select(-1, self.kept), values.index_select(-1, self.angles)
        return torch.cat([kept, turned.sin(), turned.cos()], -1) if len(self.angles) else kept


class SenseEncoder(nn.Module):
    """{sense: (..., *shape)} -> latent (..., D), for senses that are vectors.

    Each sense has its own first layer; their sum goes through the trunk. That equals one layer over the concatenated
    senses, and leaves out by construction what is not there.

    Args:
        senses: their shapes.
        place: entries of `observation` that say where one is, if goals are such places. How to get to one from here
            does not depend on where in the world that is, so all that is taken in of places is how far the goal is off:
            what was learned in one place holds in every other, and what stands where is for memory to know.
        angles: entries of senses that go round and round: taken in as sine and cosine.
    """

    def __init__(
        self,
        senses: Mapping[str, tuple[int, ...]],
        config: EncoderConfig | None = None,
        place: tuple[int, ...] = (),
        angles: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.config = config or EncoderConfig()
        sizes = {name: shape[0] for name, shape in senses.items() if len(shape) == 1}
        if not sizes:
            raise UsageError(f"no sense that is a vector among {dict(senses)}; images are not learned from yet")
        if sizes.get("achieved_goal", 0) == sizes.get("desired_goal"):
            sizes[GOAL_OFFSET] = sizes["desired_goal"]
        if place:
            sizes = {name: size for name, size in sizes.items() if name not in ("achieved_goal", "desired_goal")}
        angles = (angles or {}) if self.config.angles else {}
        self.entries = nn.ModuleDict()  # of the layers that do not take in a sense as it is
        for name, size in sizes.items():
            left_out, turned = place if name == "observation" else (), angles.get(name, ())
            if left_out or turned:
                self.entries[layer_name(name)] = entries = Entries(size, left_out, turned)
                sizes[name] = entries.size
        sizes = {name: size for name, size in sizes.items() if size}
        self.layers = {name: layer_name(name) for name in sizes}
        width = self.config.width
        self.normalise = nn.ModuleDict({self.layers[name]: Normaliser(size) for name, size in sizes.items()})
        self.first = nn.ModuleDict({self.layers[name]: nn.Linear(size, width) for name, size in sizes.items()})
        self.trunk = nn.Sequential(
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, self.config.latent),
            nn.LayerNorm(self.config.latent),
            SimNorm(self.config.group),
        )

    def fit(self, observation: Mapping[str, Tensor]) -> None:
        """Set the normalisers from observations, each (n, *shape)."""
        senses = self._taken_in(observation)
        for name, layer in self.layers.items():
            if name in senses:
                self.normalise[layer].fit(senses[name])  # type: ignore[operator]

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        parts = [self.first[layer](sense) for layer, sense in self._normalised(observation).items()]
        return self.trunk(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])

    def scaled(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Senses side by side, each entry in units of its spread, (..., N)."""
        return torch.cat(list(self._normalised(observation).values()), -1)

    def _normalised(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The senses that are there, each in units of its spread, by the names of their layers."""
        senses = self._taken_in(observation)
        return {layer: self.normalise[layer](senses[name]) for name, layer in self.layers.items() if name in senses}

    def _taken_in(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        senses = with_goal_offset(observation)
        for name, layer in self.layers.items():
            if layer in self.entries and name in senses:
                senses[name] = self.entries[layer](senses[name])
        return senses


def with_goal_offset(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The senses, and how far the goal still is."""
    senses = dict(observation)
    achieved, desired = senses.get("achieved_goal"), senses.get("desired_goal")
    if achieved is not None and desired is not None and achieved.shape == desired.shape:
        senses[GOAL_OFFSET] = desired - achieved
    return senses


def layer_name(sense: str) -> str:
    """A sense's name as torch takes it for a layer: itself, or percent-encoded (`urllib.parse.unquote` reads it back).

    Torch takes no dots, no empty name, and none that a ModuleDict has as an attribute, such as "type".
    """
    name = sense.replace("%", "%25").replace(".", "%2E") or "%"
    return f"%{ord(name[0]):02X}{name[1:]}" if hasattr(nn.ModuleDict(), name) else name
