"""Places that were seen and the ways between them: a graph over remembered moments.

A landmark is a moment, kept with all that was sensed at it. A way from it costs what the agent's own critics say that
it costs to get from there to what was achieved elsewhere, if that is near; more, if they say that something is in
between, for they may be wrong; a way that was gone is one in any case. After Search on the Replay Buffer (Eysenbach et
al. 2019). The frontier, ways that lead where nobody has been, is what makes it explore.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from ami_agent.memory.rows import Rows

Senses = dict[str, np.ndarray]
Costs = Callable[[Senses, np.ndarray], np.ndarray]  # senses (n, *shape), goals (n, G) -> costs (n,), above 0

TRUST = 1.5  # a way is believed if it costs up to this many times what its length costs where nothing is in between
DETOUR = 1.2  # how much longer than straight on a way is taken to be where nobody has been
WARY = 3.0  # the same, where a way is known
CURIOUS = 4.0  # how much longer a way may be to a place that is further from all landmarks by 1
RAISED = 4.0  # what the cost of a way that failed, or is not believed, is multiplied by


class Landmarks:
    """Landmarks of one place, found and linked as moments come.

    Args:
        costs: of getting from moments to goals.
        size: G, of a goal.
        spacing: how near a landmark stands for a moment, in the units of goals.
        reach: the longest way.
        most: landmarks, and failures; from then on a new one takes the place of that which was not seen for longest.
    """

    def __init__(self, costs: Costs, size: int, spacing: float, reach: float, most: int = 4096) -> None:
        self.spacing, self.reach, self.most = spacing, reach, most
        self._costs, self._ring = costs, reach * directions(size)
        self._senses: dict[str, Rows] = {}
        self._places = Rows((size,), np.float64)
        self._latest, self._time = Rows((), np.int64), 0  # when each was seen last, in moments seen
        self._frontier = Rows((len(self._ring),), np.float64)  # cost of each way along the ring; infinite if it is none
        self._easiest = Rows((), np.float64)  # of them
        self._seen: dict[tuple[int, int], float] = {}  # from landmark to landmark: what the critics say that it costs
        self._doubted: dict[tuple[int, int], float] = {}  # the same where they say that something is in between, raised
        self._gone: dict[tuple[int, int], float] = {}  # the same of ways that were gone, which count in any case
        self.failures = np.empty((0, 2 * size))  # (m, 2 G): from where, to where one did not get
        self._tree: KDTree | None = None

    def __len__(self) -> int:
        return len(self._places)

    @property
    def places(self) -> np.ndarray:
        """(n, G): what was achieved at each landmark."""
        return self._places.view

    @property
    def ways(self) -> dict[tuple[int, int], float]:
        """From landmark to landmark: what it costs, of those that are believed."""
        return self._seen | self._gone

    def see(self, senses: Senses, sought: np.ndarray | None = None) -> int:
        """The landmark that stands for a moment, each (*shape,): that nearest to it or, if this is where a place was
        sought (G,), to that place; a new one if none is near."""
        place = senses["achieved_goal"].astype(np.float64)
        away = self._away(place if sought is None else sought)
        index = int(away.argmin()) if away.min(initial=np.inf) <= self.spacing else self._add(senses, place)
        self._time += 1
        self._latest.put(index, self._time)
        return index

    def gone(self, start: int, end: int, refutes: bool = True) -> None:
        """A way that was gone is one, both ways as far as one can tell, and costs what its length does; more if it
        failed and this `refutes` nothing, for it may have been gone before. A leap, further than ways go, is none."""
        left, there = self.places[start], self.places[end]
        length = float(np.linalg.norm(left - there))
        if length > self.reach + self.spacing:
            return
        refuted = self._told(left, there)
        if refutes and refuted.any():
            self.failures = self.failures[~refuted]
        cost = self._rate * length
        raised = cost * RAISED
        self._gone[start, end] = raised if not refutes and self._failed(left, there) else cost
        self._gone.setdefault((end, start), raised if self._failed(there, left) else cost)

    def failed(self, start: int, place: np.ndarray) -> None:
        """One set out from a landmark and did not get to a place (G,): from around here no new way leads there any
        more, none that was seen from the landmark itself, and one that was gone costs more."""
        left = self.places[start]
        if not self._told(left, place).any():
            self.failures = np.concatenate([self.failures, np.concatenate([left, place])[None]])[-self.most :]
        around = self._away(left) <= self.reach / 2
        there = np.linalg.norm(self._rings() - place, axis=2) <= self.reach / 2
        self._frontier.view[around[:, None] & there] = np.inf
        for end in np.flatnonzero(self._away(place) <= self.spacing).tolist():
            self._forget((start, end))
            if (start, end) in self._gone:
                self._gone[start, end] *= RAISED

    def relive(self, senses: Senses) -> None:
        """Take in the moments of an episode, each (T+1, *shape)."""
        at, places = -1, senses["achieved_goal"].astype(np.float64)
        for t, place in enumerate(places):
            if at >= 0 and np.linalg.norm(place - self.places[at]) <= self.spacing / 2:
                continue  # still there
            before, at = at, self.see({name: value[t] for name, value in senses.items()})
            if before not in (-1, at):
                self.gone(before, at, refutes=False)

    def choose(self, senses: Senses, start: int, goal: np.ndarray) -> np.ndarray:
        """Where to go first on the way to a goal (G,), from a moment, each (*shape,), for which the landmark `start`
        stands: a place (G,), in the end the goal; the goal, too, where no way is seen and it was not tried yet. Where
        it was, what failed around here is doubted, and may be tried again."""
        here = senses["achieved_goal"].astype(np.float64)
        if np.isfinite(self._trusted(_repeated(senses, 1), here, goal[None])[0]):
            return goal
        self._look(senses, start)
        onward = self._onward(senses, start, *self._exits(goal))
        if onward is None and self._failed(here, goal) and self._doubt(senses, start):
            onward = self._onward(senses, start, *self._exits(goal))
        return goal if onward is None else onward

    def explore(self, senses: Senses, start: int) -> np.ndarray | None:
        """Where to go first to see what nobody has seen, from a moment, each (*shape,), for which the landmark `start`
        stands: a place (G,); None where all that can be got to has been. Places are worth a longer way the further they
        are from all landmarks."""
        self._look(senses, start)
        apart = np.minimum(self._apart(self._rings()), self.reach)
        beyond = np.where(apart > self.spacing, CURIOUS * self._rate * (self.reach - apart), np.inf)
        onward = self._onward(senses, start, *self._cheapest(beyond))
        if onward is None and self._doubt(senses, start):
            onward = self._onward(senses, start, *self._cheapest(beyond))
        return onward

    def _doubt(self, senses: Senses, at: int) -> bool:
        """Where nothing is left, one of the ways that failed must be one after all, or was one only for a while: forget
        those from around a landmark, and look again. Whether there were any."""
        doubted = np.linalg.norm(self.failures[:, : self.places.shape[1]] - self.places[at], axis=1) <= self.reach / 2
        if doubted.any():
            self.failures = self.failures[~doubted]
            self._look(senses, at)
        return bool(doubted.any())

    @property
    def _rate(self) -> float:
        """What a unit of length costs where nothing is in between: the median over landmarks of their easiest way."""
        return float(np.median(self._easiest.view)) / self.reach

    def _add(self, senses: Senses, place: np.ndarray) -> int:
        """A new landmark, and the ways to it from those near it."""
        index = len(self) if len(self) < self.most else self._outdated()
        near = np.flatnonzero(self._away(place) <= self.reach)
        back = self._judged(self._at(near), self.places[near], np.repeat(place[None], len(near), 0))
        self._note(((other, index) for other in near.tolist()), *back)
        for name, value in senses.items():
            self._senses.setdefault(name, Rows(value.shape, value.dtype)).put(index, value)
        self._places.put(index, place)
        self._frontier.put(index, np.inf)
        self._easiest.put(index, self._costs(_repeated(senses, len(self._ring)), place + self._ring).min())
        self._tree = None
        self._look(senses, index)
        return index

    def _outdated(self) -> int:
        """The landmark that was not seen for longest, which is forgotten with all ways to it and from it."""
        index = int(self._latest.view.argmin())
        for other in np.flatnonzero(self._away(self.places[index]) <= self.reach + self.spacing).tolist():
            for way in ((index, other), (other, index)):
                self._forget(way)
                self._gone.pop(way, None)
        self.places[index] = np.inf
        return index

    def _look(self, senses: Senses, at: int) -> None:
        """Which ways there are from a landmark, as seen from a moment that it stands for."""
        away = self._away(self.places[at])
        near = np.flatnonzero((away <= self.reach) & (away > 0))
        ends = np.concatenate([self._rings()[at], self.places[near]])
        cost, clear = self._judged(_repeated(senses, len(ends)), senses["achieved_goal"].astype(np.float64), ends)
        ring = len(self._ring)
        self._frontier.view[at] = np.where(clear, cost, np.inf)[:ring]
        self._note(((at, end) for end in near.tolist()), cost[ring:], clear[ring:])

    def _note(self, ways: Iterable[tuple[int, int]], costs: np.ndarray, clear: np.ndarray) -> None:
        """Ways as they are seen now; those of infinite cost are none."""
        for way, cost, sure in zip(ways, costs.tolist(), clear.tolist(), strict=True):
            self._forget(way)
            if math.isfinite(cost) and sure:
                self._seen[way] = cost
            elif math.isfinite(cost):
                self._doubted[way] = RAISED * cost

    def _forget(self, way: tuple[int, int]) -> None:
        """Forget what the critics said of a way."""
        self._seen.pop(way, None)
        self._doubted.pop(way, None)

    def _trusted(self, senses: Senses, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The same as `_judged`; infinite, too, if something seems to be in between."""
        cost, clear = self._judged(senses, start, end)
        return np.where(clear, cost, np.inf)

    def _judged(self, senses: Senses, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Costs of ways from moments at (n, G) or (G,) to (n, G), infinite if too long or if a way like that failed;
        and whether nothing seems to be in between, (n,) bool."""
        if not len(end):
            return np.empty(0), np.empty(0, bool)
        cost = self._costs(senses, end)
        length = np.linalg.norm(end - start, axis=-1)
        clear = cost <= TRUST * self._rate * np.maximum(length, self.spacing)
        return np.where((length <= self.reach + self.spacing) & ~self._failed(start, end), cost, np.inf), clear

    def _failed(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whether a way like that from (..., G) to (..., G) failed, (...,) bool."""
        left, sought = np.split(self.failures, 2, axis=1)
        like = np.linalg.norm(start[..., None, :] - left, axis=-1) <= self.reach / 2
        return (like & (np.linalg.norm(end[..., None, :] - sought, axis=-1) <= self.reach / 2)).any(-1)

    def _told(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Which failures are of the very way from (G,) to (G,), (m,) bool."""
        return np.linalg.norm(self.failures - np.concatenate([start, end]), axis=1) <= self.spacing / 10

    def _onward(self, senses: Senses, at: int, cost: np.ndarray, exits: np.ndarray) -> np.ndarray | None:
        """The place (G,) to go to first, from a moment for which the landmark `at` stands, if leaving each landmark
        costs (n,) and leads to (n, G); None where there is no way."""
        last, n, ways = np.flatnonzero(np.isfinite(cost)), len(self), self._doubted | self.ways
        start, end = np.fromiter(itertools.chain.from_iterable(ways), np.int64, 2 * len(ways)).reshape(-1, 2).T
        ends, starts = np.append(end, np.full(len(last), n)), np.append(start, last)
        lengths = np.append(np.fromiter(ways.values(), np.float64, len(ways)), cost[last])
        back = csr_array((lengths, (ends, starts)), shape=(n + 1, n + 1))
        onward = int(dijkstra(back, indices=n, return_predecessors=True)[1][at])
        if onward < 0:
            return None
        return self._by(senses, at, exits[at] if onward == n else self.places[onward])

    def _by(self, senses: Senses, start: int, onward: np.ndarray) -> np.ndarray:
        """Where to go for a place (G,) that is the next from the landmark `start`: there or, where something seems to
        be in between but was not from the landmark, such as a corner, to the landmark itself first."""
        here, back = senses["achieved_goal"].astype(np.float64), self.places[start]
        if np.linalg.norm(here - back) <= self.spacing / 4 or self._failed(here, back):
            return onward
        seen = np.isfinite(self._trusted(_repeated(senses, 1), here, onward[None])[0])
        return onward if seen else back.copy()

    def _cheapest(self, beyond: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What leaving each landmark along its ring costs at least, (n,), and where for, (n, G), if from the ring it
        costs `beyond` (n, K) more."""
        cost = self._frontier.view + beyond
        by = cost.argmin(1)
        return cost.min(1), self._rings()[np.arange(len(self)), by]

    def _exits(self, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What it costs to get to a goal from each landmark without another, (n,), and by which place, (n, G)."""
        rings = self._rings()
        near = np.flatnonzero(self._away(goal) <= self.reach)
        direct = self._trusted(self._at(near), self.places[near], np.repeat(goal[None], len(near), 0))
        detour = WARY if np.isfinite(direct).any() else DETOUR
        straight = self._rate * np.linalg.norm(rings - goal, axis=2)
        cost, by = self._cheapest(np.where(self._apart(rings) > self.spacing, detour * straight, np.inf))
        better = near[direct <= cost[near]]
        by[better] = goal
        cost[near] = np.minimum(cost[near], direct)
        return cost, by

    def _away(self, place: np.ndarray) -> np.ndarray:
        """How far each landmark is from a place (G,), (n,)."""
        return np.linalg.norm(self.places - place, axis=1)

    def _rings(self) -> np.ndarray:
        """(n, K, G): where the ways of the frontier lead."""
        return self.places[:, None] + self._ring

    def _apart(self, points: np.ndarray) -> np.ndarray:
        """How far points (..., G) are from all landmarks, (...,): those within `spacing` are stood for by one."""
        if self._tree is None:
            self._tree = KDTree(self.places)
        return self._tree.query(points)[0]

    def _at(self, landmarks: np.ndarray) -> Senses:
        """What was sensed at landmarks (n,), each (n, *shape)."""
        return {name: rows.view[landmarks] for name, rows in self._senses.items()}


def directions(size: int) -> np.ndarray:
    """(K, G) unit vectors: along the axes, and in up to three dimensions the diagonals as well."""
    if size > 3:
        return np.concatenate([np.eye(size), -np.eye(size)])
    steps = np.array([step for step in itertools.product((-1.0, 0.0, 1.0), repeat=size) if any(step)])
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


def _repeated(senses: Senses, times: int) -> Senses:
    return {name: np.repeat(value[None], times, 0) for name, value in senses.items()}
