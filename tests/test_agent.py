"""The agent: what it does is a function of seed, weights and memory; what it lives is kept and used."""

import itertools
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.baselines.oracle_planner import OraclePlannerAgent
from ami_agent.baselines.simple import NoopAgent, RandomAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.learning.live import live
from ami_agent.memory.store import EpisodeStore
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.planning.cem import CEM, CEMConfig
from ami_agent.planning.noise import mixed
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))
QUICK = AgentConfig(CEMConfig(samples=16, elites=4, iterations=1), priors=2)
THOROUGH = CEMConfig(samples=512, elites=24, iterations=8, spread=0.6, temperature=0.5)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def reach():
    return Environment("ami/Reach-v0", 2)


def lived(environment, agent, count, seed=0):
    episodes = []
    for ended in live(environment, agent, itertools.count(seed)):
        episodes += ended
        if len(episodes) >= count:
            return episodes[:count]


def agent_in(environment, store=None, seed=0, config=QUICK):
    return AmiAgent(Brain(environment.spec, SMALL, seed=1), config, seed, store)


def test_the_same_seed_acts_the_same_and_another_does_not(reach):
    one, two, other = (lived(reach, agent_in(reach, seed=seed), 2) for seed in (4, 4, 5))
    assert all(np.array_equal(a.action, b.action) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0].action, other[0].action)


def test_no_two_decisions_share_a_seed():
    episodes, steps = (grid.ravel() for grid in np.meshgrid(np.arange(20), np.arange(200)))
    seeds = np.concatenate([mixed(seed, episodes, steps) for seed in range(20)])
    assert seeds.dtype == np.int64 and seeds.min() >= 0 and len(np.unique(seeds)) == 20 * 20 * 200


def test_an_episode_is_what_its_seed_and_actions_make_of_it(reach):
    episode = lived(reach, agent_in(reach), 1, seed=77)[0]
    single = Environment("ami/Reach-v0", 1)
    observation = single.reset(seeds=[episode.seed])
    for t, action in enumerate(episode.action):
        for name, value in observation.items():
            assert np.array_equal(value[0], episode.observation[name][t])
        observation, reward, terminated, truncated, _ = single.step(action[None])
        assert reward[0] == episode.reward[t]
    assert terminated[0] == episode.terminated and truncated[0] == episode.truncated
    assert len(episode.observation["observation"]) == len(episode) + 1


def test_what_is_lived_is_remembered_with_latents_and_surprise(reach, tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(reach, store)
        for episode in lived(reach, agent, 3):
            agent.remember(episode)
        assert len(store) == 3 and len(agent.memory) == sum(store.lengths()[:, 1] + 1)
        first = store.read(1)
        latent, moments, distances = agent.memory.recall(first.latent[:1], 1)
        assert moments[0, 0].tolist() == [1, 0] and distances[0, 0] < 1e-4
        assert first.surprise.shape == (len(first),) and (first.surprise >= 0).all()
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        assert len(agent_in(reach, store).memory) == len(agent.memory), "the next process remembers"


def test_a_new_encoder_makes_its_own_keys_for_old_memories(reach, tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(reach, store)
        agent.remember(lived(reach, agent, 1)[0])
        other = AmiAgent(Brain(reach.spec, SMALL, seed=2), QUICK, 0, store)
        assert len(other.memory) == len(agent.memory)
        assert store.encoders(1) == [other.brain.encoder_id()], "the keys of the encoder that is no more are dropped"
    with EpisodeStore(tmp_path / "memory.sqlite", read_only=True) as store:
        assert len(agent_in(reach, store).memory) == len(agent.memory), "a memory that is only read is keyed in RAM"
        assert store.encoders(1) == [other.brain.encoder_id()]


def test_a_damaged_memory_is_left_out_and_counted(reach, tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(reach, store)
        for episode in lived(reach, agent, 3):
            agent.remember(episode)
    damage(tmp_path / "memory.sqlite", 2)
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        other = AmiAgent(Brain(reach.spec, SMALL, seed=2), QUICK, 0, store)
        assert other.skipped == 1 and len(store.ids(encoder=other.brain.encoder_id())) == 2


def damage(path, episode_id):
    """Overwrite a stored episode's senses with zeros of the same length."""
    with sqlite3.connect(path) as database:
        database.execute("UPDATE chunk SET data = zeroblob(length(data)) WHERE episode = ?", (episode_id,))
    database.close()


def test_a_world_plans_the_same_alone_and_beside_others_that_end_earlier(reach):
    """World 1 is reset in the middle of world 0's episode: world 0 does not notice."""
    observation = reach.reset(seeds=[1, 2])
    pair, alone = agent_in(reach), agent_in(reach)
    pair.reset(np.ones(2, bool))
    alone.reset(np.ones(1, bool))
    for t in range(4):
        if t == 2:
            pair.reset(np.array([False, True]))
        both = pair.act(observation)
        one = alone.act({name: value[:1] for name, value in observation.items()})
        np.testing.assert_allclose(both[:1], one, atol=1e-2)  # unlearned, plans cost nearly the same: rounding shows


@torch.no_grad()
def test_memory_changes_what_is_proposed(reach, tmp_path):
    """With one remembered success the planner is offered what was done in it."""
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(reach, store)
        episode = replace(lived(reach, agent, 1)[0], success=True)
        agent.remember(episode)
        latent = torch.from_numpy(store.read(1).latent[:1])
        recalled = agent._recalled(latent)
        known = torch.from_numpy(recalled.actions), torch.from_numpy(recalled.distances)
        proposed, away = agent._proposals(latent, torch.tensor([3]), *known)
        assert proposed.shape[1] == QUICK.priors + away.shape[1] > QUICK.priors
        assert np.array_equal(proposed[0, QUICK.priors].numpy(), episode.action[: QUICK.planner.horizon])
        agent.model.predict = lambda latent, action: latent  # a step leads nowhere: nothing else is within it
        proposed, _ = agent._proposals(latent, torch.tensor([3]), known[0], known[1] + 0.01)
        assert torch.equal(proposed[:, QUICK.priors :], proposed[:, :1].expand_as(proposed[:, QUICK.priors :])), (
            "far from what was lived, the prior's plan stands"
        )
        assert agent_in(reach)._recalled(latent).actions.shape[1] == 0


def test_what_succeeded_is_done_again_until_it_fails(tmp_path):
    """By whoever has that memory from then on."""
    push = Environment("ami/Push-v0", 1)
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(push, store)
        episode = replace(lived(push, agent, 1)[0], success=True)
        agent.remember(episode)
        later = agent_in(push, store, seed=7)
        later.reset(np.ones(1, bool))
        observation = push.reset(seeds=[episode.seed])
        for done in episode.action[:3]:
            action = later.act(observation)
            np.testing.assert_array_equal(action[0], done)
            observation = push.step(action)[0]
        later.remember(replace(episode, success=False))
        for one in (later, agent_in(push, store, seed=7)):
            one.reset(np.ones(1, bool))
            assert not np.array_equal(one.act(push.reset(seeds=[episode.seed]))[0], episode.action[0])


def test_what_succeeded_in_another_task_is_not_followed(tmp_path):
    push = Environment("ami/Push-v0", 1)
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(push, store)
        episode = lived(push, agent, 1)[0]
        for task, follows in (('{"rule": "other"}', False), ("", True)):
            agent.remember(replace(episode, success=True, task=task))
            later = agent_in(push, store, seed=7)
            later.reset(np.ones(1, bool))
            first = later.act(push.reset(seeds=[episode.seed]))[0]
            assert np.array_equal(first, episode.action[0]) == follows


def test_one_that_goes_on_where_another_ended_plans_as_that_would_have(reach):
    brain = Brain(reach.spec, SMALL, seed=1)
    one, other, anew = AmiAgent(brain, QUICK), AmiAgent(brain, QUICK, begun=2), AmiAgent(brain, QUICK)
    for seed in (7, 8, 9):
        one.reset(np.ones(2, bool))
        seen = one.act(reach.reset(seeds=[seed, seed]))
    for agent, same in ((other, True), (anew, False)):
        agent.reset(np.ones(2, bool))
        assert np.array_equal(agent.act(reach.reset(seeds=[9, 9])), seen) == same


def test_a_read_only_memory_is_not_added_to(reach, tmp_path):
    with EpisodeStore(tmp_path / "memory.sqlite") as store:
        agent = agent_in(reach, store)
        agent.remember(lived(reach, agent, 1)[0])
    with EpisodeStore(tmp_path / "memory.sqlite", read_only=True) as store:
        agent = agent_in(reach, store)
        agent.remember(lived(reach, agent, 1)[0])
        assert len(store) == 1


def test_reacting_needs_no_planner(reach):
    episode = lived(reach, agent_in(reach, config=AgentConfig(plan=False)), 1)[0]
    assert np.abs(episode.action).max() <= 1


def test_decide_plans_outside_of_act(reach):
    agent, observation = agent_in(reach), reach.reset(seeds=[1, 2])
    agent.reset(np.ones(2, bool))
    action = agent.decide(agent.brain.perceive(observation).detach())
    assert np.array_equal(action.cpu().numpy(), agent.act(observation)), "the same moment, the same plan"


class Still(torch.nn.Module):
    """A world model of one's own in which nothing moves and the policy prior does nothing."""

    discount = 0.9
    action_gap = torch.zeros(())

    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        self.register_buffer("unit", torch.ones(()))

    def encode(self, observation):
        return next(iter(observation.values()))[..., :2]

    def predict(self, latent, action):
        return latent

    def reward(self, latent, action):
        return -(action - 0.5).square().sum(-1)

    def termination(self, latent):
        return torch.zeros(latent.shape[:-1])

    def value(self, latent):
        return torch.zeros(latent.shape[:-1])

    def act(self, latent, noise=None):
        return torch.zeros(*latent.shape[:-1], self.spec.action_size)


def test_another_world_model_plans_by_itself(reach):
    brain = Brain(reach.spec, SMALL)
    brain.model = Still(reach.spec)
    agent = AmiAgent(brain, AgentConfig(THOROUGH, recalled=0))
    agent.reset(np.ones(2, bool))
    assert agent.inference is None
    np.testing.assert_allclose(agent.act(reach.reset(seeds=[1, 2])), 0.5, atol=0.15)


class Constant:
    """A planner of one's own."""

    def __init__(self, action):
        self.action = action

    def plan(self, model, latent, objective, seeds, start, proposals=None):
        assert seeds.dtype == torch.int64 and seeds.shape == latent.shape[:1]
        return torch.full_like(start, self.action)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
def test_another_planner_and_objective_are_taken_up_in_the_midst(reach, device):
    agent = AmiAgent(Brain(reach.spec, SMALL, seed=1), QUICK, device=device)
    observation = reach.reset(seeds=[1, 2])
    agent.reset(np.ones(2, bool))
    usual, graphs = agent.act(observation), agent._think
    assert agent.act(observation).shape == usual.shape and agent._think is graphs
    agent.objective = lambda latents, actions: (actions - 0.9).square().sum((-1, -2))
    agent.planner = CEM(THOROUGH)
    np.testing.assert_allclose(agent.act(observation), 0.9, atol=0.15)
    for action in (0.25, 0.5):
        agent.planner = Constant(action)
        assert (agent.act(observation) == action).all()


def test_the_floors():
    seen = {"observation": np.zeros((3, 4), np.float32)}
    assert not NoopAgent(2).act(seen).any()
    action = RandomAgent(2, 0).act(seen)
    assert action.shape == (3, 2) and np.abs(action).max() <= 1 and len(np.unique(action)) == 6


def test_the_oracle_planner_pushes():
    environment = Environment("ami/Push-v0", 1)
    engine = environment.vector.engine
    agent = OraclePlannerAgent(engine, type(engine.task)())
    assert lived(environment, agent, 1, seed=3)[0].success
    with pytest.raises(UsageError, match="one world"):
        OraclePlannerAgent(Environment("ami/Push-v0", 2).vector.engine, type(engine.task)())


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("ami/Psh-v0", "did you mean ami/Push-v0"),
        ("CartPole-v1", "flat Box with finite bounds"),
        ("no_such_module:me/World-v0", "No module named 'no_such_module'"),
    ],
)
def test_environments_that_cannot_be_used_are_refused_by_name(id, reason):
    with pytest.raises(UsageError, match=reason):
        Environment(id)


@gpu
def test_a_gpu_plans_as_the_processor_does(reach):
    agents = [AmiAgent(Brain(reach.spec, SMALL, seed=1), QUICK, 0, device=device) for device in ("cpu", "cuda")]
    observation = reach.reset(seeds=[1, 2])
    for agent in agents:
        agent.reset(np.ones(2, bool))
    one, two = (agent.act(observation) for agent in agents)
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_while_it_learns_nothing_leads_it_and_it_tries_what_critics_promise():
    learning = AgentConfig(recalled=4, trust=10.0).learning()
    assert (learning.recalled, learning.ways.use, learning.trust) == (0, False, 0.0)
