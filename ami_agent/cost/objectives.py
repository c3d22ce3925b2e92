"""What plans are judged by: callables (latents, actions) -> cost, lower is better."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ami_agent.protocols import Objective


class Judge(Protocol):
    """The heads of a world model that a return is made of."""

    def reward(self, latent: Tensor, action: Tensor) -> Tensor: ...
    def termination(self, latent: Tensor) -> Tensor: ...
    def value(self, latent: Tensor) -> Tensor: ...


class Return:
    """Minus the imagined return: discounted rewards, then the critics' value of where the plan ends.

    What comes after an imagined end of the task counts by the probability that it has not ended.
    """

    def __init__(self, judge: Judge, discount: float) -> None:
        self.judge, self.discount = judge, discount

    def near(self, plan: Tensor, price: Tensor) -> Objective:
        """The same, and `price` () times the mean distance from a plan (B, T, A).

        What a search finds far from where the critics have learned is as often their error as a better way. A square
        of the distance would leave what is near all but free: then noise in the critics moves every plan a little.
        """

        def cost(latents: Tensor, actions: Tensor) -> Tensor:
            return self(latents, actions) + price * (actions - plan.unsqueeze(1)).abs().mean((-1, -2))

        return cost

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, N, T+1, D), actions (B, N, T, A) -> cost (B, N)."""
        latents, actions = latents.movedim(2, 0), actions.movedim(2, 0)
        rewards = self.judge.reward(latents[:-1], actions)
        goes_on = torch.rsub(self.judge.termination(latents[1:]), self.discount, alpha=self.discount)
        worth = self.judge.value(latents[-1])
        for reward, share in zip(reversed(rewards.unbind()), reversed(goes_on.unbind()), strict=True):
            worth = torch.addcmul(reward, share, worth)
        return -worth
