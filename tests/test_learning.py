"""Learning: it works, it stops and goes on, and going on is the same as never having stopped."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import tyro

from ami_agent import checkpoints
from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.commands import train as train_command
from ami_agent.commands.train import Config as LearnByCommand
from ami_agent.commands.train import learn as learn_by_command
from ami_agent.commands.train import origin
from ami_agent.configs import flags
from ami_agent.environment import Environment
from ami_agent.errors import LockedError, UsageError
from ami_agent.learning.live import live
from ami_agent.learning.student import StudyConfig
from ami_agent.learning.train import TrainConfig, Training, train, training_seeds
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.store import EpisodeStore
from ami_agent.memory.wayfinder import WayConfig
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Spec
from ami_agent.runs import Run
from ami_agent.signals import Stop
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))
FLAGS = ["--worlds", "4", "--warmup", "1", "--segment", "300", "--study.ratio", "0.2", "--study.batch", "32"]


def learn(folder, steps, stop=None, reward=True, id="ami/Reach-v0"):
    environment = Environment(id, 4, {"max_episode_steps": 50})
    study = StudyConfig(ratio=0.2, batch=32)
    config = TrainConfig(steps=steps, worlds=4, warmup=1, segment=300, study=study, reward=reward)
    run = Run.open(folder / "r") if (folder / "r").exists() else None
    if run is None:
        made = Run.create(folder, "train", id, "ami", 0, config)
        made.folder.rename(folder / "r")
        run = Run.open(folder / "r")
    brain, done = train(environment, run, 0, config, SMALL, stop or Stop())
    return brain, done


def same(one, two):
    ones, twos = one.model.state_dict(), two.model.state_dict()
    return all(torch.equal(value, twos[name]) for name, value in ones.items())


@pytest.mark.parametrize("id, reward", [("ami/Reach-v0", True), ("ami/Reach-v0", False), ("ami/Recall-v0", True)])
def test_going_on_equals_never_having_stopped(tmp_path, id, reward):
    whole, _ = learn(tmp_path / "whole", 1200, reward=reward, id=id)
    half, _ = learn(tmp_path / "parts", 600, reward=reward, id=id)
    assert not same(whole, half)
    rest, done = learn(tmp_path / "parts", 1200, reward=reward, id=id)
    assert done and rest.steps == whole.steps == 1200 and rest.updates == whole.updates
    assert same(whole, rest)


def test_going_on_from_between_two_checkpoints_is_the_same_too(tmp_path):
    learn(tmp_path / "parts", 1000)
    rest, _ = learn(tmp_path / "parts", 1600)
    assert same(learn(tmp_path / "whole", 1600)[0], rest)


class Barren:
    """A world without reward, in which one gets to the right or to the left."""

    n, id, task, tells_success, void = 2, "barren", "barren", False, 0
    spec = Spec("barren", {"observation": (1,)}, 1, False, 25)

    def reset(self, mask, seeds):
        self.at = np.where(mask, 0.0, getattr(self, "at", 0.0)).astype(np.float32)
        self.left = np.where(mask, 25, getattr(self, "left", 25))
        return {"observation": self.at[:, None].copy()}

    def step(self, action):
        self.at, self.left = self.at + 0.1 * action[:, 0].astype(np.float32), self.left - 1
        over, no = self.left <= 0, np.zeros(2, bool)
        told = {"physics_error": no, "success": no}
        return {"observation": self.at[:, None].copy()}, np.zeros(2, np.float32), no, over, told


def roam(folder, *until, curious=True):
    """Learn where nothing is rewarded, in so many calls; the brain, and how far each episode got."""
    config = TrainConfig(worlds=2, warmup=1, segment=500, study=StudyConfig(batch=32), curious=curious)
    run = Run.create(folder, "train", "barren", "ami", 0, config)
    for steps in until:
        brain, _ = train(Barren(), run, 0, replace(config, steps=steps), SMALL, Stop())
    with EpisodeStore(run.folder / "experience.sqlite") as store:
        return brain, [np.abs(episode.observation["observation"]).max() for _, episode in store.episodes()]


def test_where_nothing_is_rewarded_curiosity_gets_further_than_chance_and_goes_on_as_if_it_had_not_stopped(tmp_path):
    brain, far = roam(tmp_path / "a", 1_000)
    again, too = roam(tmp_path / "b", 500, 1_000)
    _, chance = roam(tmp_path / "c", 1_000, curious=False)
    assert same(brain, again) and far == too
    assert np.mean(far[-10:]) > 2 * np.mean(chance[-10:])


def test_a_warm_up_that_ends_with_a_checkpoint_is_no_exception(tmp_path):
    """Curiosity has its scales by then, and has not made an update."""
    config = TrainConfig(worlds=2, warmup=200, segment=200, study=StudyConfig(batch=8, ratio=0.1))
    lived = []
    for name, until in (("a", (260,)), ("b", (202, 260))):
        run = Run.create(tmp_path / name, "train", "barren", "ami", 0, config)
        for steps in until:
            train(Barren(), run, 0, replace(config, steps=steps), SMALL, Stop())
        with EpisodeStore(run.folder / "experience.sqlite") as store:
            lived.append([store.read(id).observation["observation"].ravel().tolist() for id in store.ids()[-2:]])
    assert lived[0] == lived[1]


def test_long_episodes_are_learned_from_although_segments_are_short(tmp_path):
    environment = Environment("MountainCarContinuous-v0", 2)
    config = TrainConfig(steps=4_400, worlds=2, segment=100, study=StudyConfig(ratio=0.01, batch=16))
    run = Run.create(tmp_path, "train", environment.id)
    brain, done = train(environment, run, 0, config, SMALL, Stop())
    assert done and brain.updates > 10


def test_settings_that_leave_nothing_to_learn_are_refused(tmp_path):
    environment = Environment("ami/Reach-v0", 4)
    for config, reason in (
        (TrainConfig(steps=100, worlds=4), "too few: learning begins after 2000"),
        (TrainConfig(study=StudyConfig(capacity=20)), "50 steps are too many for the 20 of --study.capacity"),
    ):
        with pytest.raises(UsageError, match=reason):
            train(environment, Run.create(tmp_path, "train"), 0, config, SMALL, Stop())


def test_a_second_process_cannot_go_on_with_a_run_that_is_going_on(tmp_path):
    learn(tmp_path, 600)
    before = (tmp_path / "r" / "run.json").read_bytes()
    with HomeLock(tmp_path / "r"), pytest.raises(LockedError):
        learn_by_command(LearnByCommand(resume=tmp_path / "r"), Stop())
    assert (tmp_path / "r" / "run.json").read_bytes() == before


def test_weights_tell_the_command_that_learned_them():
    train = TrainConfig(steps=9, places=False, plan=True, study=StudyConfig(ratio=1.0))
    config = LearnByCommand(env="ami/Reach-v0", seed=3, train=train, brain=SMALL)
    words = "--steps 9 --no-places --plan --study.ratio 1.0 --brain.encoder.latent 16 --brain.encoder.width 32"
    told = f"ami-agent train --env ami/Reach-v0 --seed 3 {words} --brain.model.width 32"
    assert origin(config) == {"seed": 3, "command": told}
    said = tyro.cli(LearnByCommand, args=told.split()[2:])
    assert replace(said, steps=None, train=replace(said.train, steps=said.steps)) == config
    assert flags(AgentConfig(ways=WayConfig(use=False)), AgentConfig()) == ["--ways.no-use"]


def test_a_run_that_goes_on_for_longer_stays_one_for_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = TrainConfig(worlds=1, warmup=1, segment=300, study=StudyConfig(ratio=0.01, batch=16))
    run, _, _ = learn_by_command(LearnByCommand(env="ami/Reach-v0", steps=300, train=train, brain=SMALL), Stop())
    stop = Stop()
    stop.requested = signal.SIGINT
    assert learn_by_command(LearnByCommand(resume=run.folder, steps=900), stop) is None
    _, config, brain = learn_by_command(LearnByCommand(resume=run.folder, name="other", export=tmp_path / "w"), Stop())
    assert brain.steps == 900 and "--steps 900" in origin(config)["command"]
    assert (config.name, config.export) == ("other", tmp_path / "w")


def test_a_run_that_goes_on_is_not_told_anew_how(tmp_path):
    train = TrainConfig(reward=False, study=StudyConfig(ratio=1.0))
    with pytest.raises(UsageError, match="leave out --seed 3 --no-reward --study.ratio 1.0"):
        LearnByCommand(resume=tmp_path, seed=3, train=train)


def test_learning_without_reward_goes_on_from_before_its_first_update(tmp_path):
    config = TrainConfig(steps=300, worlds=1, warmup=500, segment=200, study=StudyConfig(ratio=0.1, batch=16))
    environment = Environment("ami/Reach-v0", 1, {"max_episode_steps": 50})
    run, config = Run.create(tmp_path, "train"), replace(config, reward=False)
    with EpisodeStore(run.folder / "experience.sqlite") as store:
        brain = Brain(environment.spec, SMALL)
        Training(environment, brain, store, run, 0, config).learn(Stop())
        assert not brain.updates
    brain, done = train(environment, run, 0, replace(config, steps=600), SMALL, Stop())
    assert done and brain.updates


class CutsItself(Barren):
    """An episode is over before its limit."""

    spec = replace(Barren.spec, max_episode_steps=100)


def test_episodes_that_a_world_cuts_itself_are_in_the_curves(tmp_path):
    config = TrainConfig(steps=400, worlds=2, warmup=1, segment=400, study=StudyConfig(ratio=0.01, batch=16))
    run = Run.create(tmp_path, "train")
    train(CutsItself(), run, 0, config, SMALL, Stop())
    assert json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])["return_mean"] == 0


def test_a_home_that_is_in_use_leaves_the_weights_in_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = LearnByCommand(env="ami/Reach-v0", home=tmp_path / "home", brain=SMALL, train=TrainConfig(1, worlds=1))
    done = Run.create("runs", "train", config.env, "ami", 0, config), config, None
    monkeypatch.setattr(train_command, "learn", lambda config, stop: done)
    folder = tmp_path / "home" / "agents" / "default"
    folder.mkdir(parents=True)
    with HomeLock(folder), pytest.raises(LockedError, match="ami-agent train --resume runs/.* puts it there"):
        train_command.main(config)


def test_training_seeds_are_apart_from_those_of_evaluation():
    seeds = list(itertools.islice(training_seeds(3, 10_000), 1000))
    assert len(set(seeds)) == 1000 and min(seeds) >= 2**30 and max(seeds) < 2**31


def test_a_signal_stops_and_nothing_is_lost(tmp_path):
    learn(tmp_path, 600)
    stop = Stop()
    stop.requested = signal.SIGINT
    _, done = learn(tmp_path, 1200, stop)
    assert not done
    rest, done = learn(tmp_path, 1200)
    assert done and same(rest, learn(tmp_path / "whole", 1200)[0])


def test_stopped_before_the_first_checkpoint_one_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stop = Stop()
    stop.requested = signal.SIGINT
    assert learn_by_command(LearnByCommand(env="ami/Reach-v0"), stop) is None
    assert "before the first checkpoint" in capsys.readouterr().err.replace("\n", " ")
    assert learn_by_command(LearnByCommand(resume=next(tmp_path.glob("runs/*"))), stop) is None
    assert "it begins anew" in capsys.readouterr().err


def test_sigkill_and_resume_give_the_same_weights(tmp_path):
    environment = {**os.environ, "AMI_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ami_agent", "train"]
    begin = [*command, "--env", "ami/Reach-v0", "--steps", "1500", *FLAGS]
    for name in "ab":
        (tmp_path / name).mkdir()
    subprocess.run(begin, cwd=tmp_path / "a", env=environment, check=True, capture_output=True)
    victim = subprocess.Popen(begin, cwd=tmp_path / "b", env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list((tmp_path / "b").glob("runs/*/checkpoints/ckpt-000002")) and time.monotonic() < until:
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    folder = next((tmp_path / "b").glob("runs/*"))
    assert not list(folder.glob("checkpoints/ckpt-000005")), "it was killed before its end"
    again = [*command, "--resume", str(folder)]
    subprocess.run(again, cwd=tmp_path / "b", env=environment, check=True, capture_output=True)
    whole, _ = checkpoints.load(next((tmp_path / "a").glob("runs/*/checkpoints")))
    resumed, _ = checkpoints.load(folder / "checkpoints")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
def test_reach_is_learned_in_a_minute(tmp_path):
    """From 6,000 env steps: the plan reaches, and the policy prior alone reaches."""
    environment = Environment("ami/Reach-v0", 16)
    config = TrainConfig(steps=6_000, segment=3_000)
    run = Run.create(tmp_path, "train", "ami/Reach-v0")
    brain, _ = train(environment, run, 0, config, BrainConfig(), Stop())
    for plan in (True, False):
        agent, results = AmiAgent(brain, AgentConfig(plan=plan)), []
        for ended in live(environment, agent, itertools.count()):
            results += [episode.success for episode in ended]
            if len(results) >= 50:
                break
        assert np.mean(results) >= 0.95
