"""Sessions: episodes that share what stays the same, each a visit."""

from __future__ import annotations

import numpy as np

from ami_envs.inputs import whole

NO_SESSION = -1
SALT = 0x5E55  # keeps sessions' chances apart from those of seeds


class Sessions:
    """Which session each of n worlds is in, and how many visits of it have been before.

    Args:
        n: number of worlds.
        fixed: the session of every episode that is given none; None to leave it to seeds.
    """

    def __init__(self, n: int, fixed: int | None) -> None:
        self.fixed = fixed if fixed is None else whole("session", fixed)
        self.session = np.full(n, NO_SESSION)  # (n,) int64
        self.visit = np.zeros(n, np.int64)

    def check(self, session: int | None, task_id: int | None) -> int | None:
        """Which session an episode is asked to be in: that of a numbered task's own number, if none is given."""
        if task_id is not None:
            whole("task_id", task_id)
            session = task_id if session is None and self.fixed is None else session
        return None if session is None else whole("session", session)

    def begin(self, i: int, seed: int | None, session: int | None, rng: np.random.Generator) -> None:
        """An episode of world i begins. Without a session, a seed begins its own, and none goes on with the latest."""
        session = self.fixed if session is None else session
        before = int(self.session[i])
        again = before != NO_SESSION and (session == before or (session is None and seed is None))
        if session is None:
            session = before if again else int(rng.integers(2**31)) if seed is None else seed % 2**63
        self.session[i], self.visit[i] = session, self.visit[i] + 1 if again else 0

    def rng(self, world: int) -> np.random.Generator:
        """The generator of what stays the same over a world's session; each call begins it anew."""
        return np.random.default_rng([SALT, int(self.session[world])])
