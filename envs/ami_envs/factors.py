"""Causes that can be set: of how things look, weigh, rub and are sensed. Each has a range to learn in, and another,
apart from it, to be tested in.

What a factor changes is always counted from the model as it was compiled, never from an earlier change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from gymnasium.spaces import Box, Dict

from ami_envs.senses.camera import colours

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv

SPLITS = ("training", "held_out")
Draw = Callable[[np.random.Generator, float, float], np.ndarray]
Write = Callable[["WorldEnv", np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Factor:
    """One cause.

    Args:
        default: its value where nobody sets it, a number or an array.
        training, held_out: (low, high) of each of its numbers, to learn in and to be tested in.
        about: what it is and its unit, in a few words.
        write: `write(env, ids (k,), values (k, *shape))` puts it into the worlds `ids`; by default nothing is written,
            and whoever cares reads `env.factors[name]`.
        constants: what MuJoCo derives from the model's masses and sizes must be derived again.
        least, most: no value below or above makes sense.
        whole: only whole numbers make sense.
        together: `together(rng, low, high)` draws all its numbers, where they are not to be drawn each alone.
    """

    default: Any
    training: tuple[float, float]
    held_out: tuple[float, float]
    about: str
    write: Write = lambda env, ids, values: None
    constants: bool = False
    least: float = -np.inf
    most: float = np.inf
    whole: bool = False
    together: Draw | None = None

    def box(self, split: str) -> Box:
        """The space of its values in a split."""
        low, high = getattr(self, split)
        return Box(low, high, np.shape(self.default), np.int64 if self.whole else np.float64)

    def draw(self, rng: np.random.Generator, split: str) -> np.ndarray:
        """A value in a split's range."""
        low, high = getattr(self, split)
        if self.together is not None:
            return self.together(rng, low, high)
        shape = np.shape(self.default)
        return np.asarray(
            rng.integers(low, high, shape, endpoint=True) if self.whole else rng.uniform(low, high, shape)
        )

    def check(self, name: str, value: Any, n: int) -> np.ndarray:
        """A value for each of n worlds, (n, *shape), from one for all or one each; ValueError if it is none."""
        shape = np.shape(self.default)
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"factor {name!r} takes numbers, not {value!r}") from None
        if array.shape not in (shape, (n, *shape)):
            raise ValueError(f"factor {name!r} has shape {shape}, or {(n, *shape)} for {n} worlds, not {array.shape}")
        inside = np.isfinite(array) & (array >= self.least) & (array <= self.most)
        if not inside.all() or (self.whole and (array % 1).any()):
            kind = "whole numbers" if self.whole else "numbers"
            raise ValueError(f"factor {name!r} takes {kind} from {self.least:g} to {self.most:g}, not {value}")
        return np.broadcast_to(array, (n, *shape))


def space(factors: Mapping[str, Factor], split: str = "training") -> Dict:
    """The values of all factors in a split, "training" or "held_out"."""
    if split not in SPLITS:
        raise ValueError(f"there are the splits {', '.join(SPLITS)}, not {split!r}")
    return Dict({name: factor.box(split) for name, factor in factors.items()})


def common(env: WorldEnv) -> dict[str, Factor]:
    """The factors that the engine offers: four of the task's things, if it names any, and five of every world.

    Delay and noise are of the senses alone: `observation` and the goals are always exact.
    """
    bodies = np.array([env.model.body(name).id for name in env.task.things], int)
    geoms = np.flatnonzero(np.isin(env.model.geom_bodyid, bodies))
    still = np.flatnonzero(env.model.body_weldid[env.model.geom_bodyid] == 0)
    of_things = {
        "colour": Factor(np.ones(3), (0.7, 1.0), (0.3, 0.6), "the things' red, green, blue, x", partial(_tint, geoms)),
        "size": Factor(
            1.0,
            (0.9, 1.1),
            (1.12, 1.25),
            "the things' size, x",
            partial(_resize, bodies, geoms),
            True,
            least=0.1,
            most=10,
        ),
        "mass": Factor(1.0, (0.5, 2.0), (2.5, 5.0), "the things' mass, x", partial(_weigh, bodies), True, least=1e-3),
        "friction": Factor(
            1.0,
            (0.6, 1.5),
            (0.3, 0.5),
            "friction of the things and of what does not move, x",  # MuJoCo takes the greater of two
            partial(_rub, np.union1d(geoms, still)),
            least=0.0,
        ),
    }
    of_worlds = {
        "light": Factor(1.0, (0.6, 1.2), (0.2, 0.5), "brightness of the lamps, x", _light, least=0.0),
        "camera": Factor(np.zeros(3), (-0.02, 0.02), (0.04, 0.08), "the camera's place, + m", _camera),
        "gain": Factor(1.0, (0.85, 1.15), (0.6, 0.8), "strength of the servos, x", _gain, least=0.01),
        "delay": Factor(0, (0, 2), (3, 5), "lateness of senses, + env steps", most=100, least=0, whole=True),
        "noise": Factor(0.0, (0.0, 0.02), (0.03, 0.1), "noise of senses, share of their span", least=0.0),
    }
    return {**(of_things if bodies.size else {}), **of_worlds}


def _tint(geoms: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    rgba = colours(env.model)[geoms]
    rgba[:, :3] = np.minimum(rgba[:, :3], 1.0)
    paint = np.repeat(rgba[None], len(ids), axis=0)
    paint[..., :3] *= values[:, None, :]
    env.field("geom_rgba")[np.ix_(ids, geoms)] = paint


def _resize(bodies: np.ndarray, geoms: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    """Scale the things about their own origin; their mass stays."""
    scale = values[:, None]
    for name in ("geom_size", "geom_pos", "geom_aabb"):
        env.field(name)[np.ix_(ids, geoms)] = getattr(env.model, name)[geoms] * scale[..., None]
    env.field("geom_rbound")[np.ix_(ids, geoms)] = env.model.geom_rbound[geoms] * scale
    env.field("body_ipos")[np.ix_(ids, bodies)] = env.model.body_ipos[bodies] * scale[..., None]
    boxes = _volumes(env.model, bodies)
    env.field("bvh_aabb")[np.ix_(ids, boxes)] = env.model.bvh_aabb[boxes] * scale[..., None]
    _turn(bodies, env, ids)


def _volumes(model: mujoco.MjModel, bodies: np.ndarray) -> np.ndarray:
    """The rows of `bvh_aabb` that belong to bodies."""
    rows = [np.arange(model.body_bvhadr[b], model.body_bvhadr[b] + model.body_bvhnum[b]) for b in bodies]
    return np.concatenate(rows).astype(int)


def _weigh(bodies: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    env.field("body_mass")[np.ix_(ids, bodies)] = env.model.body_mass[bodies] * values[:, None]
    _turn(bodies, env, ids)


def _turn(bodies: np.ndarray, env: WorldEnv, ids: np.ndarray) -> None:
    """Moments of inertia: they go with the mass and with the square of the size."""
    scale = env.factors["mass"][ids] * env.factors["size"][ids] ** 2
    env.field("body_inertia")[np.ix_(ids, bodies)] = env.model.body_inertia[bodies] * scale[:, None, None]


def _rub(geoms: np.ndarray, env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    friction = np.repeat(env.model.geom_friction[geoms][None], len(ids), axis=0)
    friction[..., 0] *= values[:, None]
    env.field("geom_friction")[np.ix_(ids, geoms)] = friction


def _light(env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    env.field("light_diffuse")[ids] = env.model.light_diffuse * values[:, None, None]


def _camera(env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    env.field("cam_pos")[ids] = env.model.cam_pos + values[:, None, :]


def _gain(env: WorldEnv, ids: np.ndarray, values: np.ndarray) -> None:
    for name in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
        env.field(name)[ids] = getattr(env.model, name) * values[:, None, None]
