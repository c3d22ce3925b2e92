"""Hearing: how loud an env step was in twelve frequency bands, from the contacts of the physics.

A share of the mechanical energy that contacts use up becomes sound:

- an impact, the energy of the approach that was stopped, m u^2 / 2, with m the effective mass of the two bodies and u
  the speed along the normal that was lost; it rings the materials' resonances;
- sliding, the work of friction, force x slip speed x time: van den Doel, Kry and Pai (FoleyAutomatic, SIGGRAPH 2001)
  take the amplitude of scraping as the root of slip speed x normal force. Its noise is that of a needle over a rough
  track, whose frequencies grow with the speed, and it too is heard through the materials' resonances.

The share of a material is r / (r + tan phi): tan phi, its internal friction, turns vibration into heat (Wildes and
Richards 1988; Klatzky, Pai and Krotkov 2000, for what is heard of it), r radiates it. The materials' numbers are rough
middles of what handbooks give. Shape, place of the blow, rolling, joints' stops, direction and distance are left out,
and so is a blow that neither the step's start nor its end tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import mujoco
import numpy as np
from gymnasium.spaces import Box

from ami_envs.senses.base import Sensor

if TYPE_CHECKING:
    from ami_envs.core import WorldEnv

BANDS = np.geomspace(100.0, 8000.0, 12)  # centre frequencies, Hz
QUIETEST = 1e-7  # joules in a band that read as log(2)
LOUDEST = 1e12  # joules: what a band's energy is cut to
FAINTEST = 1e-9  # joules of one body's contacts: no more than this is rounding
HUSH = 5e-3  # m/s: slower than this is creep and settling of the soft contacts, and silent
GRAIN = 1e-4  # metres between the bumps of a surface
RADIATION = 3e-3  # r of the share above
NOISE = 0.2  # the part of a material's sound that is spread evenly over the bands
SKEW = np.array([[0, 0, 0, 0, 0, 1, 0, -1, 0], [0, 0, -1, 0, 0, 0, 1, 0, 0], [0, 1, 0, -1, 0, 0, 0, 0, 0]], float)


class Material(NamedTuple):
    """How a thing of about a hand's size sounds."""

    pitch: float  # middle of its resonances, Hz
    width: float  # their spread, octaves (standard deviation)
    friction: float  # internal friction, tan phi


METAL, GLASS = Material(3500.0, 0.8, 5e-4), Material(4500.0, 0.6, 1e-3)
STONE, WOOD = Material(1500.0, 1.0, 5e-3), Material(500.0, 0.8, 1.5e-2)
PLASTIC, RUBBER = Material(1000.0, 1.0, 4e-2), Material(150.0, 0.7, 0.2)
# by the name of a geom's MuJoCo material, up to its first "_"; others and none are plastic
MATERIALS = {"metal": METAL, "glass": GLASS, "stone": STONE, "wood": WOOD, "plastic": PLASTIC, "rubber": RUBBER}
MATERIALS |= {"steel": METAL, "wall": STONE, "floor": WOOD, "finger": RUBBER}


def click(frequency_hz: float, width: float = 0.4) -> np.ndarray:
    """One joule of sound around a frequency, (12,) joules in each band; `width` in octaves (standard deviation)."""
    octaves = np.log2(BANDS / np.clip(frequency_hz, BANDS[0], BANDS[-1]))
    profile = np.exp(-0.5 * np.square(octaves / width))
    return profile / profile.sum()


def resonance(material: Material) -> np.ndarray:
    """What each band gets of a joule put into a thing of that material, (12,)."""
    share = RADIATION / (RADIATION + material.friction)
    return share * ((1.0 - NOISE) * click(material.pitch, material.width) + NOISE / len(BANDS))


class Audio(Sensor):
    """Loudness in 12 bands of what was heard during the env step, log(1 + energy / 1e-7 joules), (12,).

    Contacts are seen at the step's end alone, and a blow or a hop can fall in between, so the speeds at the step's
    start (`env.qvel_before`) are looked at, too. A free body that touches nothing that moves sounds by the work of all
    that touched it in the step; other contacts, by the approach that they lost since its start, and by the sliding at
    its end. What a task sounds by itself (`Task.sounds`) is added.
    """

    span = 10.0
    derived = False

    def __init__(self, env: WorldEnv) -> None:
        self.space = Box(0.0, float(np.float32(np.log1p(LOUDEST / QUIETEST))), (len(BANDS),), np.float32)
        model = env.model
        names = [model.mat(i).name if i >= 0 else "" for i in model.geom_matid]
        materials = [MATERIALS.get(name.split("_")[0], PLASTIC) for name in names]
        self._resonance = np.array([resonance(one) for one in materials]).reshape(-1, len(BANDS))
        loose = (model.jnt_type == mujoco.mjtJoint.mjJNT_FREE) & (model.body_geomnum[model.jnt_bodyid] > 0)
        self._loose = model.jnt_bodyid[loose]  # free bodies
        self._moves = model.jnt_dofadr[loose][:, None] + np.arange(3)  # their dofs of translation
        self._data = mujoco.MjData(model)

    def read(self, env: WorldEnv, ids: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # of forces beyond all measure, which are cut
            energy = np.array([self._hear(env, int(i)) for i in ids]).reshape(-1, len(BANDS))
            own = env.task.sounds(env)
            if own is not None:
                energy += own[ids]
            energy = np.fmin(np.maximum(energy, 0.0), LOUDEST)  # fmin: not a number is loud, too
            return np.minimum(np.log1p(energy / QUIETEST).astype(np.float32), self.space.high)

    def _hear(self, env: WorldEnv, world: int) -> np.ndarray:
        """What a world's bodies sound, (12,) joules."""
        model, data = env.model_of(world), self._data
        env.batch.get_data(world, data)
        mujoco.mj_forward(model, data)
        contact = data.contact
        touching = (contact.efc_address >= 0) & (contact.geom >= 0).all(axis=1)
        body = model.geom_bodyid[contact.geom]
        root = model.body_rootid[body]
        tone = self._resonance[contact.geom].mean(axis=1)
        velocity = _velocities(model, data, env.qvel_before[world])
        of = (self._loose[:, None, None] == root).any(axis=2) & touching  # (bodies, contacts)
        alone = ~(of & (model.body_weldid[body] > 0).all(axis=1)).any(axis=1)
        touching &= ~of[alone].any(axis=0)

        heard = np.zeros(len(BANDS))
        free = velocity[:, self._loose, 3:]
        alone &= (np.square(free).sum(axis=2) > HUSH**2).any(axis=0)
        if np.count_nonzero(alone):
            heard += self._free(model, data, free, env.period, of, tone)[alone].sum(axis=0)
        if np.count_nonzero(touching):
            now, before = _speeds(data, root, velocity[:, body])
            heard += _met(model, data, now, before, env.period, tone)[touching].sum(axis=0)
        return heard

    def _free(
        self, model: mujoco.MjModel, data: mujoco.MjData, v: np.ndarray, period: float, of: np.ndarray, tone: np.ndarray
    ) -> np.ndarray:
        """The sound of free bodies by the work of all contacts in the step: impulse x mean velocity, (bodies, 12) J.

        As much of it is an impact as a jump of the speed tells that neither gravity nor the present acceleration
        explains. `v` (2, bodies, 3) m/s is their velocity at the end and at the start; `of` (bodies, contacts) tells
        whose contacts the tones (contacts, 12) are.
        """
        change, mean = v[0] - v[1], v.mean(axis=0)
        mass = model.body_subtreemass[self._loose]
        pull = model.opt.gravity * (1.0 - model.body_gravcomp[self._loose, None])
        pull = pull + data.xfrc_applied[self._loose, :3] / mass[:, None]
        work = np.maximum(np.abs(mass * np.vecdot(change - period * pull, mean)) - FAINTEST, 0.0)
        rest = np.stack([change, change - period * pull, change - period * data.qacc[self._moves]])
        impact = np.minimum(0.5 * mass * np.square(rest).sum(axis=2).min(axis=0), work)
        met = of.sum(axis=1)[:, None]
        own = self._resonance[model.body_geomadr[self._loose]]
        tones = np.where(met > 0, of @ tone / np.maximum(met, 1), own)
        return _spread(impact, work - impact, np.sqrt(np.vecdot(mean, mean)), tones)


def _met(
    model: mujoco.MjModel, data: mujoco.MjData, now: np.ndarray, before: np.ndarray, period: float, tone: np.ndarray
) -> np.ndarray:
    """The sound of every contact, (contacts, 12) J, of its speeds (contacts, 3) m/s and tones (contacts, 12)."""
    geom, force = data.contact.geom, _forces(model, data)
    lost = np.maximum(-before[:, 0], 0.0) - np.maximum(-now[:, 0], 0.0) - HUSH
    mass = 1.0 / np.maximum(model.body_invweight0[model.geom_bodyid[geom], 0].sum(axis=1), mujoco.mjMINVAL)
    pair = geom @ (model.ngeom, 1)
    mass /= (pair[:, None] == pair).sum(axis=1)  # shared by the points where the same two geoms touch
    slip = np.hypot(now[:, 1], now[:, 2])
    work = np.abs(np.vecdot(force[:, 1:3], now[:, 1:])) * (slip > HUSH) * period
    return _spread(0.5 * mass * np.square(np.maximum(lost, 0.0)), work, slip, tone)


def _spread(impact: np.ndarray, work: np.ndarray, slip: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """The sound (k, 12) J of impacts (k,) J and of sliding (k,) J at a speed (k,) m/s, by resonances (k, 12)."""
    pace = np.square(slip / GRAIN)[:, None]
    noise = pace / (pace + np.square(BANDS))  # of the needle: even up to its pace, falling beyond
    noise *= len(BANDS) / np.maximum(noise.sum(axis=1, keepdims=True), mujoco.mjMINVAL)
    return (impact[:, None] + work[:, None] * noise) * tone


def _forces(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Force and torque of every contact in its own frame, the normal first, (contacts, 6): newtons, newton metres."""
    force = np.zeros((data.ncon, 6))
    for i, row in enumerate(force):
        mujoco.mj_contactForce(model, data, i, row)
    return force


def _velocities(model: mujoco.MjModel, data: mujoco.MjData, before: np.ndarray) -> np.ndarray:
    """Turning and moving of all bodies, as `cvel`, with the speeds of `data` and with those `before`, (2, nbody, 6).

    Both at the place that `data` has; its speeds are left to be those `before`.
    """
    now = data.cvel.copy()
    data.qvel[:] = before
    mujoco.mj_comVel(model, data)
    return np.array([now, data.cvel])


def _speeds(data: mujoco.MjData, root: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Speed of the second body against the first at every contact, in its frame, (2, contacts, 3) m/s.

    `twist` (2, contacts, 2, 6) is theirs, as `cvel`; `root` (contacts, 2) the bodies whose trees they are of.
    """
    contact = data.contact
    arm = ((contact.pos[:, None] - data.subtree_com[root]) @ SKEW).reshape(-1, 2, 3, 3)
    point = twist[..., 3:] + (arm @ twist[..., :3, None])[..., 0]
    return (contact.frame.reshape(-1, 3, 3) @ (point[:, :, 1] - point[:, :, 0])[..., None])[..., 0]
