"""Episodes for tests: small, of every kind of array, and the same for the same seed; and where they are kept."""

from dataclasses import replace

import numpy as np
import pytest

from ami_agent.protocols import Episode

in_a_file = pytest.mark.parametrize("place", ["sqlite"], indirect=True)  # a test of `store` that is of SQLite alone


def make(seed: int = 0, steps: int = 5, width: int | None = 4, **changes) -> Episode:
    rng = np.random.default_rng(seed)
    observation = {
        "state": rng.normal(size=(steps + 1, 3)).astype(np.float32),
        "image": rng.integers(0, 256, (steps + 1, 4, 4, 3), np.uint8),
    }
    episode = Episode(
        environment="ami/Push-v0",
        observation=observation,
        action=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=seed % 2 == 0,
        truncated=seed % 2 == 1,
        success=seed % 3 == 0,
        seed=seed,
        session="first",
        latent=None if width is None else rng.normal(size=(steps + 1, width)).astype(np.float32),
        encoder="" if width is None else "alpha",
        surprise=rng.random(steps, dtype=np.float32),
    )
    return replace(episode, **changes)


def assert_same(one: Episode, other: Episode) -> None:
    for name, value in vars(one).items():
        if name == "observation":
            assert value.keys() == other.observation.keys()
            pairs = [(value[key], other.observation[key]) for key in value]
        else:
            pairs = [(value, getattr(other, name))]
        for a, b in pairs:
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
