"""The world model: latent dynamics learned by predicting the next latents (a JEPA), and the heads a plan is judged by.

After TD-MPC2 (Hansen, Su, Wang 2024): SimNorm latents, multi-step consistency with a stop-gradient target, two-hot
reward. After MR.Q (Fujimoto et al. 2025): scalar critics, Huber loss, multi-step targets.
Added here: a termination head, and inverse dynamics against collapse.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ami_agent.errors import check_ranges
from ami_agent.protocols import Batch
from ami_agent.world_model.twohot import TwoHot

FOLLOW = 0.01  # rate at which the scale of values is followed, an update
USUAL = 1e-3, 1e4  # rewards, by size in its unit, that the bins of the reward head are fine enough for
FAR = 2.0  # a mean before tanh, whose action is 0.96
LEAST_GAP = 0.1  # difference between actions, in mean rewards, below which it counts as noise


@dataclass(frozen=True)
class ModelConfig:
    width: int = 192
    """Width of the hidden layers."""
    bins: int = 101
    """Bins of the reward head."""
    unroll: int = 1
    """Steps that the model is unrolled for while it learns, no more than a window has."""
    decay: float = 0.5
    """Weight of each further imagined step in the loss."""
    consistency: float = 20.0
    """Weight of the latent prediction loss."""
    critic: float = 0.1
    """Weight of the critics' loss."""
    inverse: float = 0.1
    """Weight of the inverse-dynamics loss, which keeps what actions change in the latent."""
    entropy: float = 0.01
    """Weight of the policy prior's entropy, in units of what one action is better than another by."""
    saturation: float = 0.1
    """Weight of what the policy prior's mean before tanh is beyond 2, squared: further out it hardly learns."""
    target_rate: float = 0.05
    """How fast the target critics follow, an update."""
    expansion: int = 3
    """Steps of imagination that must bear out the value of a next moment, where going on is worth more than ending; 0
    takes the critics' word for it."""

    def __post_init__(self) -> None:
        check_ranges(self, {"width": (4, 65_536), "bins": (2, 65_536), "unroll": (1, 256), "expansion": (0, 256)})
        weights = ("decay", "consistency", "critic", "inverse", "entropy", "saturation")
        check_ranges(self, {name: (0, 1e6) for name in weights} | {"target_rate": (0, 1)})


class LatentModel(nn.Module):
    """encode, predict, reward, termination, critics and policy prior over one latent.

    Args:
        encoder: {sense: (..., *shape)} -> latent (..., D).
        latent: D.
        action_size: A.
        normalise: the latent's normalisation, the same as the encoder's last layer.
        discount: of the critics, a decision.
    """

    scale: Tensor
    unit: Tensor
    reward_unit: Tensor
    level: Tensor
    spread: Tensor
    mortal: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        latent: int,
        action_size: int,
        normalise: nn.Module,
        discount: float,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        self.config, self.discount = config or ModelConfig(), discount
        width, bins = self.config.width, self.config.bins
        self.encoder, self.action_size = encoder, action_size
        self.dynamics = nn.Sequential(mlp(latent + action_size, width, latent), nn.LayerNorm(latent), normalise)
        self.reward_head = mlp(latent + action_size, width, bins)
        self.end_head = mlp(latent, width // 4, 1)
        self.critics = nn.ModuleList([mlp(latent + action_size, width, 1) for _ in range(2)])
        self.policy = mlp(latent, width, 2 * action_size)
        self.inverse = mlp(2 * latent, width // 2, action_size)
        self.twohot = TwoHot(bins)
        for head in (self.reward_head, *self.critics):
            nn.init.zeros_(head[-1].weight)  # type: ignore[index]
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.register_buffer("scale", torch.ones(()))  # running difference that actions make, in `unit`s
        self.register_buffer("unit", torch.ones(()))  # mean size of a reward
        self.register_buffer("reward_unit", torch.ones(()))  # what the reward head counts in
        self.register_load_state_dict_pre_hook(_complete)
        self.register_buffer("level", torch.zeros(()))  # running mean and spread of values: what critics count from,
        self.register_buffer("spread", torch.ones(()))  # and in
        self.register_buffer("mortal", torch.zeros((), dtype=torch.bool))  # whether going on is worth more than ending

    @torch.no_grad()
    def fit(
        self, observation: dict[str, Tensor], reward: Tensor, terminated: Tensor | None = None, keep: bool = False
    ) -> None:
        """Set what is normalised by from experience: observations (n, *shape), rewards (n,), and 1 where one was the
        last, (n,); and whether going on is worth more than ending.

        keep: values stay what they were. What is sensed is scaled anew without more ado: where the scale of a sense
        grows a hundredfold, as of a thing that had never been lifted, weights that made up for it would drown all other
        senses.
        """
        self.encoder.fit(observation)  # type: ignore[operator]
        size = reward.abs().mean()
        unit = size if size > 1e-6 else torch.ones(())
        if keep:
            self.scale.mul_(self.unit / unit).clamp_(min=LEAST_GAP)
        else:
            self.spread.copy_(unit)
        self.unit.copy_(unit)
        some = reward[reward != 0].abs().mean() if reward.any() else self.reward_unit
        if not USUAL[0] <= some / self.reward_unit <= USUAL[1]:
            self.reward_unit.copy_(some)  # what the head said would now mean something else: it begins anew
            nn.init.zeros_(self.reward_head[-1].weight)  # type: ignore[index, arg-type]
            nn.init.zeros_(self.reward_head[-1].bias)  # type: ignore[index, arg-type]
        if terminated is not None and terminated.any():
            going_on = self.level if keep else reward.mean()  # before anything is learned, values mean nothing
            self.mortal.copy_(reward[terminated > 0].mean() < going_on)

    # -- imagination --------------------------------------------------------------------------------------------

    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        return self.encoder(observation)

    def predict(self, latent: Tensor, action: Tensor) -> Tensor:
        return self.dynamics(torch.cat([latent, action], -1))

    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """(..., D), (..., A) -> expected reward (...,)."""
        return self.twohot.decode(self.reward_head(torch.cat([latent, action], -1))) * self.reward_unit

    def termination(self, latent: Tensor) -> Tensor:
        """Probability that arriving at this latent ends the task, (..., D) -> (...,)."""
        return self.end_head(latent).squeeze(-1).sigmoid()

    def value(self, latent: Tensor, action: Tensor | None = None, target: bool = False) -> Tensor:
        """Pessimistic value of (latent, action), by default of the policy's own action: the lower of two critics."""
        x = torch.cat([latent, self.act(latent) if action is None else action], -1)
        return self._worth(torch.minimum(*(critic(x) for critic in (self.targets if target else self.critics))))

    def _worth(self, guess: Tensor) -> Tensor:
        """What a critic says (..., 1), as a value (...,)."""
        return self.level + self.spread * guess.squeeze(-1)

    @property
    def action_gap(self) -> Tensor:
        """How much more an action is worth than another, (): running root mean square, in rewards."""
        return self.scale * self.unit

    def act(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """The policy prior's action, (..., D) -> (..., A) in [-1, 1]: its mean, or with normal noise a sample."""
        if noise is None:
            return self.policy(latent)[..., : self.action_size].tanh()
        mean, log_std = self._policy(latent)
        return torch.addcmul(mean, noise, log_std.exp()).tanh()

    def _policy(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.policy(latent).chunk(2, -1)
        return mean, -5.0 + 3.0 * (log_std.tanh() + 1.0)  # std from exp(-5) to e

    # -- learning -----------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the model and its critics on replay windows; metrics carry what `policy_loss` takes: the imagined
        latents, the values of the actions that were lived in them, and the weights.
        """
        near = self.encode({name: value[:, :2] for name, value in batch.observation.items()})
        with torch.no_grad():
            later = self.encode({name: value[:, 2:] for name, value in batch.observation.items()})
            seen = torch.cat([near[:, 1:], later], 1)  # what the next moments look like, (B, T, D)
        goal = self._targets(batch, seen, generator)
        batch, seen = batch.first(goal.shape[1]), seen[:, : goal.shape[1]]
        self._rescale(goal[batch.mask > 0])
        latents = self._imagine(near[:, 0], batch.action)
        following, x = latents[:, 1:], torch.cat([latents[:, :-1], batch.action], -1)
        weight = batch.mask * self.config.decay ** torch.arange(batch.mask.shape[1])
        weight = weight / weight.sum()
        guesses = [critic(x) for critic in self.critics]

        def mean(loss: Tensor) -> Tensor:
            return (weight * loss).sum()

        ends = self.end_head(following).squeeze(-1)
        inverse = self.inverse(near.flatten(-2))
        losses = {
            "consistency": mean((following - seen).square().mean(-1)),
            "reward": mean(self.twohot.loss(self.reward_head(x), batch.reward / self.reward_unit)),
            "critic": mean(torch.stack([self._critic_loss(guess, goal) for guess in guesses]).sum(0)),
            "end": mean(F.binary_cross_entropy_with_logits(ends, batch.terminated, reduction="none")),
            "inverse": (batch.mask[:, 0] * (inverse - batch.action[:, 0]).square().mean(-1)).mean(),
        }
        c = self.config
        total = c.consistency * losses["consistency"] + 0.1 * (losses["reward"] + losses["end"])
        total = total + c.critic * losses["critic"] + c.inverse * losses["inverse"]
        told = {"latents": latents.detach(), "lived": self._worth(torch.add(*guesses) / 2).detach(), "weight": weight}
        return total, {**losses, "value": goal.mean(), **told}

    def policy_loss(self, latents: Tensor, lived: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Climb the critics with a little entropy, over imagined latents (B, T+1, D), with the values of the actions
        that were `lived` and weights, each (B, T).

        It climbs their mean, as in MR.Q (Fujimoto et al. 2025): the lower of two has its top where they cross.
        What entropy is weighed against is the difference that actions make in a moment, not that between moments,
        which may be a hundred times as large. The policy's mean before tanh is held back, as in MR.Q, too, but only
        where the action is all but the largest.
        """
        latents = latents[:, :-1]
        noise = torch.randn(*weight.shape, self.action_size, generator=generator)
        mean, log_std = self._policy(latents)
        raw = mean + noise * log_std.exp()
        x = torch.cat([latents, raw.tanh()], -1)
        value = self._worth(torch.add(*(critic(x) for critic in self.critics)) / 2) / self.unit
        with torch.no_grad():
            gap = (value - lived / self.unit).square().mul(weight).sum().sqrt()
            self.scale.lerp_(torch.where(gap.isfinite(), gap.clamp(min=LEAST_GAP), self.scale), 0.01)
        squash = 2 * (math.log(2) - raw - F.softplus(-2 * raw))  # log(1 - tanh^2), Haarnoja et al. 2018, appendix C
        log_p = (-0.5 * noise.square() - log_std - squash).sum(-1)
        saturation = self.config.saturation * F.relu(mean.abs() - FAR).square().mean(-1)
        return (weight * (self.config.entropy * log_p + saturation - value / self.scale)).sum()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target critics towards the critics."""
        targets: list[Tensor] = list(self.targets.parameters())
        sources: list[Tensor] = list(self.critics.parameters())
        torch._foreach_lerp_(targets, sources, self.config.target_rate)

    @torch.no_grad()
    def _targets(self, batch: Batch, seen: Tensor, generator: torch.Generator) -> Tensor:
        """The critics' targets (B, unroll), from the next moments' latents (B, T, D): the reward and the next moment's
        value; or, if that is more, the rewards to the last step that was lived and the value of the moment after it.
        The best that can be done is worth no less than what was done (He et al. 2017, optimality tightening).
        """
        steps = min(self.config.unroll, seen.shape[1])
        last = batch.mask.sum(1).long().sub(1).clamp(min=0)
        ends = torch.cat([seen[:, :steps], seen[torch.arange(len(seen)), last].unsqueeze(1)], 1)
        values = self._expanded(ends, generator)
        onward, lived = values[:, -1], torch.empty_like(batch.reward)
        for t in reversed(range(seen.shape[1])):
            lived[:, t] = batch.reward[:, t] + self.discount * (1 - batch.terminated[:, t]) * onward
            onward = torch.where(t <= last, lived[:, t], onward)
        reward, goes_on = batch.reward[:, :steps], 1 - batch.terminated[:, :steps]
        return torch.maximum(reward + self.discount * goes_on * values[:, :-1], lived[:, :steps])

    def _expanded(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """Values (B, N) of moments (B, N, D): what the target critics say of them; or, if that is less and going on is
        worth more than ending, what they say after `expansion` steps by the policy prior in imagination, and the
        rewards on the way (model-based value expansion, Feinberg et al. 2018).

        Where actions have many numbers, both critics come to believe alike that an action never tried would have saved
        what fell, and each moment's belief feeds the one before. The model tells where such an action leads.
        """
        steps = self.config.expansion if self.mortal else 0
        noise = torch.randn(steps + 1, len(latent), 1, self.action_size, generator=generator)
        noise = noise.expand(-1, -1, latent.shape[1], -1)
        action = self.act(latent, noise[0])
        said = self.value(latent, action, target=True)
        if not steps:
            return said
        gained, share = torch.zeros_like(said), torch.ones_like(said)
        for later in noise[1:]:
            gained = gained + share * self.reward(latent, action)
            latent = self.predict(latent, action)
            share = share * self.discount * (1 - self.termination(latent))
            action = self.act(latent, later)
        return torch.minimum(said, gained + share * self.value(latent, action, target=True))

    def _critic_loss(self, guess: Tensor, goal: Tensor) -> Tensor:
        return F.smooth_l1_loss(guess.squeeze(-1), (goal - self.level) / self.spread, reduction="none")

    @torch.no_grad()
    def _rescale(self, goal: Tensor) -> None:
        """Follow the mean and the spread of values (n,), while the critics go on saying what they said: Pop-Art (van
        Hasselt et al. 2016). The spread is never less than the size of a reward.
        """
        if len(goal) < 2 or not goal.std().isfinite():
            return
        level, spread = self.level.clone(), self.spread.clone()
        self.level.lerp_(goal.mean(), FOLLOW)
        self.spread.lerp_(goal.std().clamp(min=self.unit), FOLLOW)
        for critic in (*self.critics, *self.targets):
            last: nn.Linear = critic[-1]  # type: ignore[index, assignment]
            last.weight.mul_(spread / self.spread)
            last.bias.mul_(spread).add_(level - self.level).div_(self.spread)

    def _imagine(self, latent: Tensor, actions: Tensor) -> Tensor:
        """(B, D), (B, T, A) -> (B, T+1, D)."""
        latents = [latent]
        for action in actions.unbind(1):
            latents.append(self.predict(latents[-1], action))
        return torch.stack(latents, 1)


def _complete(model: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Complete older weights, whose critics count in the size of a reward, from zero, and reward heads in ones."""
    weights.setdefault(f"{prefix}mortal", torch.zeros((), dtype=torch.bool))
    weights.setdefault(f"{prefix}reward_unit", torch.ones(()))
    if f"{prefix}unit" in weights:
        weights.setdefault(f"{prefix}spread", weights[f"{prefix}unit"])
        weights.setdefault(f"{prefix}level", torch.zeros(()))


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with LayerNorm and SiLU."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(),
        nn.Linear(width, outputs),
    )  # fmt: skip
