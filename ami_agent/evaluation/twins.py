"""Episodes to measure perception by: lives of a blurred expert, with the truth of each moment; and impossible twins.

A twin begins with the same seed and takes the same actions. Up to its moment it is the same episode bit for bit; then
something happens to the thing that no physics allows (violation of expectation, after Riochet et al., "IntPhys", 2018).
That is done to the simulator, once; what senses tell of it is as exact as ever, so that nothing but the event gives it
away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_envs.core import WorldEnv
from ami_envs.faces import BatchEnv

BLUR = 0.3  # standard deviation of what is added to the expert's actions, which are from -1 to 1
MOVES, LIFTED = 0.05, 0.05  # m/s; metres above the table
JUMP, GONE = 0.1, 2.0  # metres
IMMOVABLE = 1e6  # times a thing's mass
OWN_BIT = 1 << 10  # of collisions: no scene uses it
GRIP, OPEN = 4, -1.0  # which action, and its value
AFTER = 10  # steps after a violation within which surprise counts
SEEN = 0.01  # metres: twins whose cubes are never further apart within them are no pair

Event = Callable[[WorldEnv, np.ndarray], None]  # what is done to worlds of the engine, by their ids


@dataclass(frozen=True)
class Lives:
    """Episodes of n worlds, side by side: T actions, T+1 moments. What stands after an episode's end means nothing."""

    senses: dict[str, np.ndarray]  # each (T+1, n, size)
    action: np.ndarray  # (T, n, A) float32
    reward: np.ndarray  # (T, n)
    lived: np.ndarray  # (T, n) bool
    truth: dict[str, np.ndarray]  # each (T+1, n, k): metres, m/s; the mass in times the thing's own

    @property
    def moments(self) -> np.ndarray:
        """Which moments were lived, (T+1, n) bool."""
        return np.concatenate([np.ones_like(self.lived[:1]), self.lived])


@dataclass(frozen=True)
class Twins:
    """Lives of n worlds with a violation, and the same without: which are a pair, and where they are compared."""

    violation: str
    impossible: Lives
    possible: Lives
    onset: np.ndarray  # (n,) step before which it comes; -1 for never
    length: np.ndarray  # (n,) steps from there on
    pair: np.ndarray  # (n,) bool

    def most(self, errors: np.ndarray) -> np.ndarray:
        """The largest of errors (T, n) within the steps compared, (n,); minus infinity where there are none."""
        t = np.arange(len(errors))[:, None]
        return np.where((t >= self.onset) & (t < self.onset + self.length), errors, -np.inf).max(0)


class Thing:
    """The first thing of a world, which can move freely, and where it is in the simulator's arrays."""

    def __init__(self, engine: WorldEnv) -> None:
        body = engine.model.body(engine.task.things[0])
        joint = engine.model.joint(int(body.jntadr[0]))
        first, speed = int(joint.qposadr[0]), int(joint.dofadr[0])
        self.body = int(body.id)
        self.place, self.velocity = engine.robot.qpos[:, first : first + 3], engine.robot.qvel[:, speed : speed + 3]
        self.turning = engine.robot.qvel[:, speed + 3 : speed + 6]  # these three are live, (n, 3)
        self.geoms = np.flatnonzero(engine.model.geom_bodyid == self.body)


def expert_lives(environment: Environment, seeds: range) -> Lives:
    """An episode of each seed, by the scripted expert whose every action is blurred: so it also fails, and mends.

    Who acts does not depend on who is measured: all agents are shown the same. Raises UsageError for others' worlds.
    """
    generator, batch = np.random.default_rng(seeds.start), _batch(environment)

    def act(t: int) -> np.ndarray:
        expert = batch.oracle()
        return np.clip(expert + BLUR * generator.normal(size=expert.shape), -1.0, 1.0).astype(np.float32)

    return _lives(environment, seeds, act, environment.spec.max_episode_steps)


def relived(
    environment: Environment, seeds: range, action: np.ndarray, onset: np.ndarray, event: Event | None = None
) -> Lives:
    """The episodes of these seeds with actions (T, n, A) again; before step `onset` (n,) of each comes the event, if
    any; in none where that is -1."""
    engine = _batch(environment).engine

    def act(t: int) -> np.ndarray:
        now = np.flatnonzero(onset == t)
        if event is not None and len(now):
            event(engine, now)
        return action[t]

    return _lives(environment, seeds, act, len(action))


def _batch(environment: Environment) -> BatchEnv:
    if not isinstance(environment.vector, BatchEnv):
        raise UsageError(f"{environment.id} tells no truth and has no snapshots; worlds of this package do")
    return environment.vector


def _lives(environment: Environment, seeds: range, act: Callable[[int], np.ndarray], steps: int) -> Lives:
    """Live until all episodes have ended, at most some steps; worlds that are done stand still."""
    batch = _batch(environment)
    observation, _ = batch.reset(seed=list(seeds))
    alive = np.ones(environment.n, bool)
    seen, true, actions, rewards, lived = [observation], [_truth(batch.engine)], [], [], []
    for t in range(steps):
        actions.append(act(t))
        lived.append(alive.copy())
        observation, reward, terminated, truncated, _ = batch.step(actions[-1], alive)
        alive &= ~(terminated | truncated)
        rewards.append(reward)
        seen.append(observation)
        true.append(_truth(batch.engine))
        if not alive.any():
            break
    senses = {name: np.stack([one[name] for one in seen]) for name in environment.spec.senses}
    truth = {name: np.stack([one[name] for one in true]) for name in true[0]}
    return Lives(senses, np.stack(actions), np.stack(rewards), np.stack(lived), truth)


def _truth(engine: WorldEnv) -> dict[str, np.ndarray]:
    """What the simulator knows of this moment, (n, k) each."""
    told = {"fingertip place": engine.robot.tip.copy(), "fingertip velocity": engine.robot.hand()[:, 6:9]}
    if engine.task.things:
        thing, mass = Thing(engine), engine.factors["mass"][:, None]
        told |= {"cube place": thing.place.copy(), "cube velocity": thing.velocity.copy(), "cube mass": mass.copy()}
    return told


def moving(truth: dict[str, np.ndarray]) -> np.ndarray:
    """Whether the cube is faster than 5 cm/s, (T+1, n)."""
    return np.linalg.norm(truth["cube velocity"], axis=-1) > MOVES


def lifted(truth: dict[str, np.ndarray]) -> np.ndarray:
    """Whether the cube is in the air, (T+1, n): its middle higher than 5 cm, where it lies at 2 cm."""
    return truth["cube place"][..., 2] > LIFTED


def handled(id: str, lives: Lives) -> np.ndarray:
    """Before which steps the cube is handled, so that its mass shows and violations may come, (T, n): it moves, or in
    Stack is in the air."""
    return HANDLED[id](lives.truth)[:-1] & lives.lived


def drawn_onset(eligible: np.ndarray, seed: int) -> np.ndarray:
    """A step of each episode, drawn from those that are eligible, (T, n) bool: (n,), -1 where there is none."""
    chance = np.where(eligible, np.random.default_rng(seed).random(eligible.shape), -1.0)
    return np.where(eligible.any(0), chance.argmax(0), -1)


def let_go(action: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """The same actions (T, n, A), but from the onset (n,) on the hand opens."""
    changed = action.copy()
    changed[(np.arange(len(action))[:, None] >= onset) & (onset >= 0), GRIP] = OPEN
    return changed


def compared(
    impossible: Lives, possible: Lives, onset: np.ndarray, most: int, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """For how many steps from the onset (n,) on twins are compared, (n,): as long as both live, `most` at most. And
    which are a pair, (n,) bool: those whose cubes come further apart than `least` metres, as the simulator has it."""
    length = np.minimum(np.minimum(impossible.lived.sum(0), possible.lived.sum(0)) - onset, most)
    steps = min(len(impossible.action), len(possible.action)) + 1
    apart = np.linalg.norm(impossible.truth["cube place"][:steps] - possible.truth["cube place"][:steps], axis=-1)
    t = np.arange(steps)[:, None]
    return length, (onset >= 0) & (np.where((t > onset) & (t <= onset + length), apart, 0.0).max(0) > least)


def twins(environment: Environment, seeds: range, lives: Lives, onset: np.ndarray) -> Iterator[Twins]:
    """For each violation: `lives`, which are of these seeds, and their actions again with it at the onsets (n,)."""
    for violation, event in VIOLATIONS.items():
        possible = lives
        if (environment.id, violation) in RELEASED:
            possible = relived(environment, seeds, let_go(lives.action, onset), onset)
        impossible = relived(environment, seeds, possible.action, onset, event)
        yield Twins(violation, impossible, possible, onset, *compared(impossible, possible, onset, AFTER, SEEN))


# -- what no physics allows -----------------------------------------------------------------------------------------


def teleport(engine: WorldEnv, ids: np.ndarray) -> None:
    """The thing is 10 cm further away from the hand, at the same height, as fast as it was."""
    place = Thing(engine).place
    away = place[ids, :2] - engine.robot.tip[ids, :2]
    place[ids, :2] += JUMP * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def vanish(engine: WorldEnv, ids: np.ndarray) -> None:
    """The thing is out of reach, 2 m away: senses have no word for what is gone, and tell that place."""
    Thing(engine).place[ids, 0] += GONE


def pass_through(engine: WorldEnv, ids: np.ndarray) -> None:
    """The hand and the thing no longer touch one another; the table still bears it."""
    _meets_only(engine, ids, engine.model.geom_bodyid == 0)


def no_gravity(engine: WorldEnv, ids: np.ndarray) -> None:
    """The thing weighs nothing: let go, it hangs in the air; on the table it does not rub."""
    engine.field("body_gravcomp")[ids, Thing(engine).body] = 1.0


def freeze(engine: WorldEnv, ids: np.ndarray) -> None:
    """The thing stands still wherever it is, and the hand cannot move it."""
    no_gravity(engine, ids)
    _meets_only(engine, ids, engine.model.geom_bodyid > 0)  # the table would push it out of itself
    engine.intervene({"mass": IMMOVABLE}, ids.tolist())
    thing = Thing(engine)
    thing.velocity[ids] = thing.turning[ids] = 0.0


def _meets_only(engine: WorldEnv, ids: np.ndarray, others: np.ndarray) -> None:
    """Let the thing collide with those others alone, (geoms,) bool, of all that can collide."""
    geoms, solid = Thing(engine).geoms, np.flatnonzero(others & (engine.model.geom_contype > 0))
    engine.field("geom_conaffinity")[np.ix_(ids, solid)] |= OWN_BIT
    engine.field("geom_conaffinity")[np.ix_(ids, geoms)] = 0
    engine.field("geom_contype")[np.ix_(ids, geoms)] = OWN_BIT


VIOLATIONS: dict[str, Event] = {
    "teleport": teleport,
    "vanish": vanish,
    "pass through": pass_through,
    "gravity off": no_gravity,
    "frozen": freeze,
}
HANDLED = {"ami/Push-v0": moving, "ami/Stack-v0": lifted}
RELEASED = {("ami/Stack-v0", "gravity off")}  # the hand lets go in both twins: what it holds weighs next to nothing
