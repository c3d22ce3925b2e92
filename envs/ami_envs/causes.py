"""What differs between the worlds of one engine though the scene is one: the factors' values, and the fields of
MuJoCo's model that they, or a task's lamps and colours, are written into."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from ami_envs.factors import SPLITS, Factor, common

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv

DERIVING = frozenset(mujoco.MjModel._setconst_inputs)  # fields that MuJoCo derives constants from
Chosen = str | Mapping[str, Any] | None  # a split to draw from, or values by name


class Causes:
    """The factors of n worlds.

    Args:
        env: the engine; its model, batch and task are ready.
        chosen: of every episode: "training" or "held_out" to draw all factors from those ranges, or values by name,
            one for all worlds or one each.
    """

    def __init__(self, env: WorldEnv, chosen: Chosen = None) -> None:
        self._env: WorldEnv = weakref.proxy(env)  # no cycle: MuJoCo's memory goes with the engine
        self.chosen = copy.deepcopy(chosen)
        self.values: dict[str, np.ndarray] = {}
        self.fields: dict[str, np.ndarray] = {}  # of the model, (n, ...), live
        self.factors: dict[str, Factor] = {**common(env), **env.task.factors(env)}
        for name, factor in self.factors.items():
            default = np.asarray(factor.default, dtype=float)
            self.values[name] = np.broadcast_to(default, (env.n, *default.shape)).copy()
        self._fixed: list[frozenset[str]] = [frozenset()] * env.n  # chosen by the user: the task leaves them alone
        self._changed = np.zeros(env.n, bool)
        self._derived = np.zeros(env.n, bool)  # constants differ from the compiled model's
        self._model = copy.copy(env.model)
        self.check(self.chosen)

    def field(self, name: str) -> np.ndarray:
        """A field of MuJoCo's model, a row a world: (n, ...), live."""
        if name not in self.fields:
            self.fields[name] = self._env.batch.expand(name)
        return self.fields[name]

    def model_of(self, world: int) -> mujoco.MjModel:
        """The model of one world; valid until the next call."""
        return self._env.batch.get_model(world, self._model) if self.fields else self._env.model

    def begin(self, world: int, chosen: Chosen, key: np.ndarray) -> None:
        """An episode begins: all factors as they were compiled, then what the user chose, drawn by `key` alone."""
        if self._changed[world] or self.fields:
            self._reset(world)
        given: dict[str, np.ndarray] = {}
        for each in (self.chosen, chosen):
            given |= self._draw(each, world, key)
        self._fixed[world] = frozenset(given)
        if given:
            self.intervene(given, np.array([world]))

    def propose(self, world: int, values: Mapping[str, Any]) -> None:
        """A task's own draw at the start of an episode; what the user chose stays."""
        free = {name: value for name, value in values.items() if name not in self._fixed[world]}
        if free:
            self.intervene(free, np.array([world]))

    def intervene(self, values: Mapping[str, Any], ids: np.ndarray) -> None:
        """Set factors by name in worlds `ids` (k,): a value for all, or (k, ...) one each; others stay as they are."""
        checked = {name: self._find(name).check(name, value, len(ids)) for name, value in values.items()}
        for name, value in checked.items():
            self.values[name][ids] = value
        for name, value in checked.items():
            self.factors[name].write(self._env, ids, value)
        self._changed[ids] = True
        if checked.keys() & {name for name, factor in self.factors.items() if factor.constants}:
            self._env.batch.set_const(ids)
            self._derived[ids] = True

    def snapshot(self, world: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The factors' values and the rows of the fields, copied; nothing where nothing was ever changed."""
        values = {name: value[world].copy() for name, value in self.values.items()} if self._changed[world] else {}
        return values, {name: field[world].copy() for name, field in self.fields.items()}

    def restore(self, ids: np.ndarray, values: Mapping[str, np.ndarray], fields: Mapping[str, np.ndarray]) -> None:
        """Put a snapshot's factors and fields into worlds `ids`."""
        for i in ids:
            if self._changed[i] or self.fields:
                self._reset(int(i))
        for name, value in values.items():
            self.values[name][ids] = value
        for name, row in fields.items():
            self.field(name)[ids] = row
        self._changed[ids] = bool(values)
        if DERIVING & fields.keys():
            self._env.batch.set_const(ids)
            self._derived[ids] = True

    def moment(self, world: int) -> bytes:
        """What a world's looks owe to its causes."""
        return b"".join(field[world].tobytes() for field in self.fields.values())

    def _reset(self, world: int) -> None:
        for name, field in self.fields.items():
            field[world] = getattr(self._env.model, name)
        if self._changed[world]:
            for name, factor in self.factors.items():
                self.values[name][world] = factor.default
        if self._derived[world]:
            self._env.batch.set_const([world])
        self._changed[world] = self._derived[world] = False

    def _draw(self, chosen: Chosen, world: int, key: np.ndarray) -> dict[str, np.ndarray]:
        if isinstance(chosen, str):
            rng = np.random.default_rng([*key, 1])
            return {name: self.factors[name].draw(rng, chosen) for name in self.factors}
        n = self._env.n
        return {name: self._find(name).check(name, value, n)[world] for name, value in (chosen or {}).items()}

    def check(self, chosen: Chosen) -> None:
        """ValueError for a choice that no episode could begin with."""
        if not (chosen in SPLITS if isinstance(chosen, str) else isinstance(chosen, Mapping | None)):
            raise ValueError(f"factors are 'training', 'held_out' or values by name, not {chosen!r}")
        self._draw(chosen, 0, np.zeros(2, np.uint64))

    def _find(self, name: str) -> Factor:
        if name not in self.factors:
            near = get_close_matches(name, self.factors, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.factors)}"
            raise ValueError(f"no factor {name!r}; {hint}")
        return self.factors[name]
