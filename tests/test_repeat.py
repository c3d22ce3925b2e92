"""Action repeat: what a decision adds up, when it stops, and that its weights and episodes are never mixed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from ami_agent import cli
from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import find_brain, learned_path, learned_repeat
from ami_agent.configs import build
from ami_agent.environment import Environment, find, make
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.memory.replay import Replay
from ami_agent.memory.store import EpisodeStore
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Episode, Spec
from ami_agent.repeat import Repeated, kept_as, split
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))


class Counts(gym.Env):
    """Counts its steps; step k is worth k; tells what `told` says of it. Ends at step `last`."""

    observation_space, action_space = Box(-99, 99, (1,)), Box(-1, 1, (1,))

    def __init__(self, told=None, last=None):
        self.told, self.last = told or {}, last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        info = {name: values.get(self.t, type(next(iter(values.values())))()) for name, values in self.told.items()}
        return np.full(1, self.t, np.float32), float(self.t), self.t == self.last, False, info


@pytest.fixture(autouse=True)
def counts():
    gym.register("counts/Counts-v0", Counts, max_episode_steps=10)
    yield
    gym.registry.pop("counts/Counts-v0")


def still(environment: Environment) -> np.ndarray:
    return np.zeros((environment.n, environment.spec.action_size), np.float32)


def test_the_spec_counts_decisions() -> None:
    plain, held = Environment("counts/Counts-v0").spec, Environment("counts/Counts-v0", 1, {}, 4).spec
    assert (plain.action_repeat, plain.max_episode_steps, plain.environment) == (1, 10, "counts/Counts-v0")
    assert (held.action_repeat, held.max_episode_steps, held.environment) == (4, 3, "counts/Counts-v0@4")
    assert Environment("ami/Reach-v0", 1, {}, 5).spec.control_period == pytest.approx(0.2)
    assert split(held.environment) == ("counts/Counts-v0", 4) and split("a/B-v0") == ("a/B-v0", 1)
    for odd in (0, 101, -1, 2.0):
        with pytest.raises(UsageError, match="from 1 to 100"):
            kept_as("a/B-v0", odd)


def test_rewards_add_and_the_time_limit_counts_env_steps() -> None:
    environment = Environment("counts/Counts-v0", 2, {}, 4)
    environment.reset(seeds=[0, 1])
    lived = [environment.step(still(environment)) for _ in range(3)]
    assert [step[1].tolist() for step in lived] == [[10, 10], [26, 26], [19, 19]]
    assert [step[0]["observation"][0, 0] for step in lived] == [4, 8, 10]
    assert [step[3].tolist() for step in lived] == [[False] * 2, [False] * 2, [True] * 2]


def test_a_world_that_ends_stops_and_the_others_go_on() -> None:
    environment = Environment("counts/Counts-v0", 2, {"last": 5}, 2)
    environment.reset(seeds=[0, 1])
    environment.step(still(environment))
    environment.reset(np.array([True, False]), [3, 0])
    environment.step(still(environment))
    observation, reward, terminated, truncated, _ = environment.step(still(environment))
    assert observation["observation"][:, 0].tolist() == [4, 5] and reward.tolist() == [7, 5]
    assert terminated.tolist() == [False, True] and not truncated.any()


@pytest.mark.parametrize("yes", [True, 1.0, np.True_])
def test_a_success_in_any_env_step_counts_and_costs_add(yes) -> None:
    told = {"success": {2: yes}, "physics_error": {6: True}, "cost": {1: 1.0, 3: 2.5}, "last": {3: 7}}
    env = Repeated(Counts(told), 3)
    env.reset(seed=0)
    info = env.step(np.zeros(1))[4]
    assert info == {"success": True, "physics_error": False, "cost": 3.5, "last": 7}
    assert env.step(np.zeros(1))[4]["physics_error"] is True
    environment = Environment("counts/Counts-v0", 2, {"told": told}, 3)
    environment.reset(seeds=[0, 1])
    first, second = environment.step(still(environment))[4], environment.step(still(environment))[4]
    assert first["success"].all() and not first["physics_error"].any()
    assert second["physics_error"].all() and not second["success"].any()


@pytest.mark.parametrize("id", ["ami/Push-v0", "ami/Lane-v0", "Pendulum-v1"])
def test_a_batch_lives_as_single_worlds_do(id: str) -> None:
    """To the bit, with worlds that begin, and so end, at different times."""
    options = {"max_episode_steps": 11}
    batch, numbers = Environment(id, 3, options, 4), np.random.default_rng(0)
    singles = [make(find(id), options, 4) for _ in range(3)]
    seen = batch.reset(seeds=[0, 1, 2])
    for i, one in enumerate(singles):
        one.reset(seed=i)
    for t in range(8):
        action = numbers.uniform(-1, 1, (3, batch.spec.action_size)).astype(np.float32)
        seen, reward, terminated, truncated, info = batch.step(action)
        done = (terminated | truncated) | (t == np.array([0, 9, 9]))
        for i, one in enumerate(singles):
            space = one.action_space
            told, worth, *ends, facts = one.step(action[i] * space.high[0])
            told = told if isinstance(told, dict) else {"observation": told}
            assert all(
                np.array_equal(value[i], np.ravel(told[name]).astype(np.float32)) for name, value in seen.items()
            )
            assert np.float32(worth) == reward[i] and ends == [terminated[i], truncated[i]]
            assert bool(facts.get("success", False)) == info["success"][i]
            if done[i]:
                one.reset(seed=10 * t + i)
        if done.any():
            batch.reset(done, [10 * t + i for i in range(3)])


def test_our_batch_freezes_a_world_that_has_ended() -> None:
    environment = Environment("ami/Reach-v0", 2, {}, 10)
    environment.reset(seeds=[0, 1])
    engine = environment.vector.engine
    engine.goal[0] = engine.robot.tip[0]  # success at the first env step
    observation, _, terminated, _, info = environment.step(still(environment))
    assert terminated.tolist() == [True, False] == info["success"].tolist()
    assert engine.steps.tolist() == [1, 10]
    with pytest.raises(RuntimeError, match="world 0 has ended"):
        environment.vector.step(still(environment))
    assert np.array_equal(observation["achieved_goal"][0], np.float32(engine.task.achieved(engine)[0]))


def test_another_goal_is_rewarded_for_every_env_step() -> None:
    plain, held = Environment("ami/Reach-v0"), Environment("ami/Reach-v0", 1, {}, 5)
    achieved = np.zeros((2, 3))
    desired = np.array([[0.0, 0, 0.3], [0.0, 0, 0]])  # the second is reached, and ends the task
    far, there = plain.compute_reward(achieved, desired, {})
    assert held.compute_reward(achieved, desired, {}) == pytest.approx([5 * far, there])


def test_a_decision_that_a_limit_cuts_short_is_no_better_than_others():
    def indifferent(*rewards, name="Limited-v0@4", terminated=False):
        n, replay = len(rewards), Replay(100)
        observation = {"observation": np.zeros((n + 1, 1), np.float32)}
        action, reward = np.zeros((n, 1), np.float32), np.float32(rewards)
        replay.add(1, Episode(name, observation, action, reward, terminated, not terminated, None))
        return replay.indifferent

    assert indifferent(-4, -4, -1) and indifferent(4, 4, 2) and indifferent(-4, -4, -4) and indifferent(-1)
    assert not indifferent(-4, -4, 1) and not indifferent(-4, -1, -1) and not indifferent(0, 0, 1)
    assert not indifferent(-4, -4, -1, terminated=True) and not indifferent(-4, -4, -1, name="Limited-v0")


def test_weights_of_another_repeat_are_refused_and_told_apart(tmp_path: Path) -> None:
    plain, held = Environment("Pendulum-v1").spec, Environment("Pendulum-v1", 1, {}, 4).spec
    old = {name: value for name, value in asdict(plain).items() if name != "action_repeat"}
    assert build(Spec, old) == plain, "weights of older versions load"
    assert learned_repeat("Pendulum-v1", tmp_path) == 1
    Brain(held, SMALL).save(learned_path(tmp_path, held.environment))
    assert learned_repeat("Pendulum-v1", tmp_path) == 4 and find_brain(held, tmp_path)[1] == "learned"
    assert find_brain(plain, tmp_path) is None
    file = str(learned_path(tmp_path, held.environment))
    assert learned_repeat("Pendulum-v1", tmp_path / "no", file) == 4
    with pytest.raises(ArtefactError, match=r"repeat 4, not 1.*--action-repeat 4 acts.*train --env Pendulum-v1`"):
        find_brain(plain, tmp_path, file)
    Brain(plain, SMALL).save(learned_path(tmp_path, plain.environment))
    with pytest.raises(UsageError, match="repeats 1 and 4: choose one by --action-repeat"):
        learned_repeat("Pendulum-v1", tmp_path)
    assert learned_repeat("ami/Reach-v0", tmp_path) == 1, "what ships"


def told(capsys, *words: str) -> dict:
    code = cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def test_from_learning_to_replay(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMI_HOME", str(tmp_path / "home"))
    env = ["--env", "Pendulum-v1"]
    small = ["--worlds", "2", "--warmup", "1", "--segment", "1", "--study.ratio", "0.05", "--study.batch", "8"]
    learned = told(capsys, "train", *env, "--action-repeat", "8", "--steps", "1600", *small)
    assert (learned["action_repeat"], learned["steps"], learned["decisions"]) == (8, 1600, 200)
    assert 0 < learned["updates"] <= 0.05 * 200 and learned["skipped_updates"] == learned["void_episodes"] == 0
    assert learned["weights"].endswith("Pendulum-v1@8.safetensors")
    more = told(capsys, "train", "--resume", learned["run"], "--steps", "2400")
    assert (more["action_repeat"], more["steps"], more["decisions"]) == (8, 2400, 300)
    lived = told(capsys, "run", *env, "--episodes", "1", "--seed", "3")
    assert (lived["action_repeat"], lived["decisions"], lived["env_steps"]) == (8, 25, 200)
    assert lived["weights"] == "learned" and lived["learned_steps"] == 2400
    told(capsys, "run", *env, "--episodes", "1", "--agent", "random", "--action-repeat", "1")
    with EpisodeStore(tmp_path / "home" / "agents" / "default" / "memory.sqlite") as store:
        assert len(store.ids("Pendulum-v1@8")) == 1 and not store.ids("Pendulum-v1")
    online = told(capsys, "run", *env, "--episodes", "1", "--learn")
    assert online["learned_steps"] == 2600 and online["memory"] == {"episodes": 2, "steps": 50}
    assert told(capsys, "replay", lived["run"], "--verify") == {"episodes": 1, "equal": 1, "differences": {}}
    run = json.loads((tmp_path / lived["run"] / "run.json").read_text())
    assert run["results"]["action_repeat"] == 8
    assert json.loads((tmp_path / lived["run"] / "config.json").read_text())["action_repeat"] == 8
    assert "200 env steps (action repeat 8)" in (tmp_path / lived["run"] / "report.html").read_text()
    assert cli.main(["run", *env, "--episodes", "1", "--agent", "noop", "--action-repeat", "200"]) == 2
    assert "--action-repeat must lie from 0 to 100" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["oracle", "oracle-planner", "random"])
def test_baselines_hold_their_actions_too(agent: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--env", "ami/Reach-v0", "--agent", agent, "--episodes", "1", "--seed", "2"]
    assert told(capsys, "run", *words)["action_repeat"] == 1
    lived = told(capsys, "run", *words, "--action-repeat", "2")
    assert lived["env_steps"] == 2 * lived["decisions"] and lived["action_repeat"] == 2
    assert told(capsys, "replay", lived["run"], "--verify")["equal"] == 1
