"""An agent of someone else's, whole: actions linear in the senses, changed at random; what helps is kept."""

import numpy as np

from ami_agent.learning.train import training_seeds


class Climber:
    """climbs hills: linear actions, changed at random"""

    def __init__(self, spec, seed):
        self._random, self._seed = np.random.default_rng(seed), seed
        self._weights = np.zeros((sum(size for (size,) in spec.senses.values()), spec.action_size), np.float32)

    def reset(self, done):
        """Nothing to forget."""

    def act(self, observation):
        return np.tanh(np.concatenate(list(observation.values()), axis=1) @ self._weights)

    def train(self, environment, steps, judge):
        seeds, lived, best = training_seeds(self._seed, 0), 0, -np.inf
        while lived < steps:
            before = self._weights
            self._weights = before + self._random.normal(0, 0.1, before.shape).astype(np.float32)
            observation, total, ended = environment.reset(seeds=[next(seeds)]), 0.0, False
            while not ended:
                observation, reward, terminated, truncated, _ = environment.step(self.act(observation))
                total, ended = total + reward[0], (terminated | truncated)[0]
                lived += environment.spec.action_repeat
                if not judge(lived):
                    return
            if total < best:
                self._weights = before
            best = max(best, total)
