"""The rule of `ami/Levers-v0`, what tells of it, and that it can be found out by trying."""

import numpy as np
import pytest

from ami_envs.core import WorldEnv
from ami_envs.senses.audio import BANDS
from ami_envs.worlds.levers import DARK, FLASH, LEVERS, LIT, RULES, STROKE, Levers, enter, press

TOUR = [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0]  # every lever straight after every other


def start(n=12, sensors=(), **options):
    env = WorldEnv(Levers(**options), n, sensors)
    env.reset(seeds=range(n))
    return env


def hit(env, lever):
    """Lever (n,) goes down and up, without the hand."""
    first = env.robot.joints
    for angle in (STROKE, 0.0):
        env.robot.qpos[env.all, first + np.asarray(lever)] = angle
        env.task.after(env, np.ones(env.n, bool))


@pytest.mark.parametrize("rule", RULES)
def test_only_the_last_two_levers_count_and_any_history_can_be_mended(rule):
    env, rng = start(60, rule=rule), np.random.default_rng(0)
    a, b = env.hidden["pair"].T
    told: list[list[int]] = [[] for _ in a]
    for _ in range(8):
        lever = rng.integers(LEVERS, size=env.n)
        hit(env, lever)
        for i, k in enumerate(lever):
            if told[i][-1:] != [k]:
                told[i].append(k)
            pair = [*told[i], -1, -1][:2] if len(told[i]) < 2 else told[i][-2:]
            due = {"one": k == a[i], "and": {*pair} == {a[i], b[i]}, "order": pair == [a[i], b[i]]}[rule]
            if not env.hidden["unlocked"][i]:
                assert not due
            elif due:
                assert env.observe()["observation"][i, 21] == 1
    locked = ~env.hidden["unlocked"]
    assert locked.any() or rule == "one"
    hit(env, a)
    hit(env, b)
    assert env.hidden["unlocked"].all()


def test_the_lamps_tell_the_last_two_levers_and_the_idle_one_flashes_with_a_lever_of_no_use():
    env = start(rule="order")
    env.hidden["blinks"][:] = -1
    a, decoy = env.hidden["pair"][:, 0], env.hidden["decoy"]
    decoy[:] = (a + 1) % LEVERS
    hit(env, decoy)
    hit(env, a)
    seen = env.observe()["observation"][:, 16:22]
    names = [*(f"lamp{k}" for k in range(LEVERS)), "decoy_lamp", "hatch_lamp"]
    lamps = [env.model.geom(name).id for name in names]
    assert (seen[env.all, a] == 1).all() and (seen[env.all, decoy] == 0.5).all() and (seen[:, :4].sum(1) == 1.5).all()
    assert (seen[:, 4] == 1).all() and (seen[:, 5] == 0).all()
    colours = env.field("geom_rgba")[:, lamps]
    assert np.allclose(colours[env.all, a], LIT) and np.allclose(colours[:, 5], DARK)
    for _ in range(FLASH):
        env.step(np.zeros((env.n, 5)))
    assert (env.observe()["observation"][:, 20] == 0).all()
    env.reset()
    assert (env.field("geom_rgba")[:, lamps] == env.model.geom_rgba[lamps]).all()


def test_the_rule_belongs_to_the_session():
    env = start(40)
    kind, pair = env.hidden["kind"].copy(), env.hidden["pair"].copy()
    assert {*kind} == {0, 1, 2} and len({tuple(one) for one in pair}) == 12
    env.reset()
    assert (env.visit == 1).all() and (env.hidden["kind"] == kind).all() and (env.hidden["pair"] == pair).all()
    assert (start(40, rule="and").hidden["pair"] == pair).all()
    with pytest.raises(ValueError, match="rule must be one of any, one, and, order, not 'or'"):
        Levers(rule="or")


def test_a_lever_clicks_and_the_lock_sounds_lower():
    env = start(4, sensors=("audio",), rule="order")
    a, b = env.hidden["pair"].T
    heard = {}
    for name, lever in (("first", a), ("second", b)):
        while not env.hidden["hit"].any(axis=1)[0]:
            heard[name] = env.step(press(env, lever))[0]["audio"][0]
        heard[name] = env.observe()["audio"][0]
        env.step(press(env, lever))
    lows, highs = BANDS < 1000, BANDS > 1800
    assert heard["first"][highs].max() > heard["first"][lows].max() + 2
    assert heard["second"][lows].max() > heard["first"][lows].max() + 2


@pytest.mark.parametrize("robot", ["gantry", "arm7"])
def test_shut_doors_keep_the_hand_out(robot):
    env = start(4, robot=robot)
    env.hidden["unlocked"][:] = True
    env.hidden["sliding"][:] = 0
    for _ in range(60):
        env.hidden["unlocked"][:] = False
        action = enter(env)
        action[:, 2] = np.where(np.abs(action[:, :2]).max(axis=1) < 0.5, -1.0, action[:, 2])
        observation = env.step(action)[0]
    assert (observation["achieved_goal"][:, 2] > 0.075).all() and (observation["achieved_goal"][:, 3] == 0).all()


def visit(env, plans):
    """Press the levers of each world's plan in turn until the lamp of the hatch is lit, then reach in: when it was
    done, (n,), and the last two levers pressed, by the lamps."""
    n, turn, when = env.n, np.zeros(env.n, int), np.full(env.n, 1000)
    alive, pairs = np.ones(n, bool), np.zeros((n, 2), int)
    for step in range(env.task.max_episode_steps):
        lever = np.array([plan[min(t, len(plan) - 1)] for plan, t in zip(plans, turn, strict=True)])
        unlocked = env.observe()["observation"][:, 21] == 1
        _, _, over, info = env.step(np.where(unlocked[:, None], enter(env), press(env, lever)), alive)
        lamps = info["observation"][:, 16:20]
        turn += (lamps[env.all, lever] == 1) & alive
        pairs[:, 0] = np.where((lamps == 0.5).any(axis=1), (lamps == 0.5).argmax(axis=1), (lamps == 1).argmax(axis=1))
        pairs[:, 1] = (lamps == 1).argmax(axis=1)
        when[over & alive] = step + 1
        alive &= ~over
    return when, pairs


@pytest.mark.parametrize("robot", ["gantry", "arm7"])
def test_trying_finds_the_rule_and_remembering_it_is_faster(robot):
    env = start(24, robot=robot)
    first, pairs = visit(env, [TOUR] * env.n)
    assert (first < 1000).mean() >= 0.95
    env.reset()
    again, _ = visit(env, pairs)
    assert (again < 100).all() and np.median(again) < np.median(first) / 1.5
