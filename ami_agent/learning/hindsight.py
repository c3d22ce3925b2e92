"""Hindsight relabelling: what was reached could have been the goal (Andrychowicz et al. 2017, strategy "future")."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ami_agent.protocols import Batch

BEFORE = "achieved_before"  # what was achieved a step before, in the info that rewards are computed with


class Rewards(Protocol):
    """Whoever can judge pairs of goals: a goal environment."""

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]) -> np.ndarray: ...
    def compute_terminated(
        self, achieved: np.ndarray, desired: np.ndarray, info: dict[str, np.ndarray]
    ) -> np.ndarray: ...


def relabel(batch: Batch, goals: Tensor, chosen: Tensor, rewards: Rewards) -> Batch:
    """Give the chosen windows another goal, and the rewards and ends that go with it.

    Args:
        batch: windows (B, T+1, ...).
        goals: (B, goal) the goal each window would get.
        chosen: (B,) bool, which windows get it, save those that begin where it is reached already.
        rewards: the environment.
    """
    begin = batch.observation["achieved_goal"][:, 0].double().numpy()
    there = rewards.compute_terminated(begin, goals.double().numpy(), {})
    chosen = chosen & ~torch.from_numpy(np.array(there, bool))
    desired = torch.where(chosen[:, None, None], goals[:, None], batch.observation["desired_goal"])
    observation = {**batch.observation, "desired_goal": desired}
    achieved = observation["achieved_goal"][chosen, 1:]
    flat = achieved.flatten(0, 1).double().numpy()
    wanted = desired[chosen, 1:].flatten(0, 1).double().numpy()
    seen, before = observation["observation"][chosen, 1:], observation["achieved_goal"][chosen, :-1]
    info = {name: now.flatten(0, 1).double().numpy() for name, now in (("observation", seen), (BEFORE, before))}
    shape = achieved.shape[:2]
    reward, terminated, mask = batch.reward.clone(), batch.terminated.clone(), batch.mask.clone()
    reward[chosen] = torch.from_numpy(rewards.compute_reward(flat, wanted, info)).float().view(shape)
    meant = batch.observation["desired_goal"][chosen, 1:].flatten(0, 1).double().numpy()
    by_goal = torch.from_numpy(np.array(rewards.compute_terminated(flat, meant, info), bool)).view(shape)
    otherwise = terminated[chosen].bool() & ~by_goal  # ends that no goal explains, such as a fall, remain
    ended = torch.from_numpy(np.array(rewards.compute_terminated(flat, wanted, info), bool)).view(shape)
    ended = (ended | otherwise).float()
    terminated[chosen] = ended
    over = torch.cat([torch.zeros_like(ended[:, :1]), ended.cumsum(1)[:, :-1]], 1).clamp(max=1)
    mask[chosen] = mask[chosen] * (1 - over)
    return Batch(observation, batch.action, reward, terminated, mask)
