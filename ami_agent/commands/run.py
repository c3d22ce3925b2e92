"""`ami-agent run`: let an agent live in an environment: perceive, remember, plan, act, report."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from ami_agent import console
from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.commands.casting import Cast, cast, learned_repeat
from ami_agent.commands.common import LARGEST_SEED, check_range, in_session, parse_options, pick_device
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.evaluation.film import as_lived, filmstrip
from ami_agent.evaluation.memory_map import memory_map
from ami_agent.evaluation.place_map import place_map
from ami_agent.evaluation.report import write_report
from ami_agent.evaluation.resimulate import film_of
from ami_agent.evaluation.results import Results
from ami_agent.evaluation.timed import Timed
from ami_agent.evaluation.watched import Watched
from ami_agent.files import write_bytes
from ami_agent.learning.live import live
from ami_agent.memory.database import check_url
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode
from ami_agent.repeat import MOST
from ami_agent.runs import Run
from ami_agent.signals import Stop, graceful

MAPPED = 1_000  # moments drawn of a memory
SAVE_EVERY = 20  # episodes between two saves of what `--learn` has learned
EPISODES_A_SEED = 10_000  # episode k of `--seed S` is seeded S * this + k


@dataclass(frozen=True)
class Config:
    env: str
    """Gymnasium id of the environment, e.g. ami/Push-v0; `ami-agent env list` shows ours."""
    episodes: int = 20
    """How many to live."""
    first: int = 0
    """Which of the seed's episodes to begin with: `--first 5` goes on where `--episodes 5` has ended."""
    seed: int = 0
    """Of the episodes and of everything the agent draws; in a world with sessions, which session is visited."""
    agent: Literal["ami", "random", "noop", "floor", "oracle", "oracle-planner"] = "ami"
    """Who acts: ours; chance; nobody; the world's scripted expert, without what the world needs (memory, touch) or
    with it; or our planner on the true simulator."""
    learn: bool = False
    """Go on learning from what is lived."""
    memory: Literal["on", "off", "read-only"] = "on"
    """Remember across runs; not at all; or recall without adding."""
    url: str | None = None
    """Of a memory that agents share on a server, in place of the agent's own: postgresql://USER@HOST/DATABASE."""
    weights: str = "auto"
    """auto (what the agent has learned here, else what ships), pretrained, learned, or a file."""
    options: str = "{}"
    """Options of the environment, a JSON object."""
    action_repeat: int = 0
    """Env steps that each action is held for; 0 for as many as the weights were learned with, or 1 without weights."""
    home: Path | None = None
    """Where agents live; AMI_HOME or ~/.ami-agent if not given."""
    name: str = "default"
    """Name of the agent."""
    train_steps: int = 30_000
    """Env steps to train for when there are no weights yet."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent thinks."""
    threads: int = 1
    """Threads of torch; small networks want one."""
    video: bool = False
    """Write a moving picture of every episode into the run's folder."""
    json: bool = False
    """Print one JSON object on stdout."""
    mind: Annotated[AgentConfig, tyro.conf.arg(name="")] = field(default_factory=AgentConfig)

    def __post_init__(self) -> None:
        check_range("episodes", self.episodes, 1, 1_000_000)
        check_range("first", self.first, 0, max(EPISODES_A_SEED - self.episodes, 0))
        check_range("seed", self.seed, 0, LARGEST_SEED)
        check_range("threads", self.threads, 1, 256)
        check_range("action-repeat", self.action_repeat, 0, MOST)
        check_range("train-steps", self.train_steps, 1, 10**9)
        parse_options(self.options)
        if self.learn and (self.agent != "ami" or self.memory != "on"):
            raise UsageError("--learn needs --agent ami and --memory on: it learns from its own memory")
        if self.url is not None:
            if self.agent != "ami" or self.memory == "off":
                raise UsageError("--url needs --agent ami and --memory on or read-only: it says where the memory is")
            check_url(self.url)  # before a run is made that keeps its command line


def main(config: Config) -> int:
    """Live the episodes, write the report, and print what was measured."""
    torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    typed, config = config, replace(config, options=in_session(config.env, config.options, config.seed))
    if config.learn and config.device == "cuda":
        raise UsageError("--learn works on the processor for now; leave --device cuda out")
    config = replace(config, action_repeat=config.action_repeat or learned_repeat(config))
    environment = Environment(config.env, 1, parse_options(config.options), config.action_repeat)
    with ExitStack() as stack:
        stack.callback(environment.close)
        stop = stack.enter_context(graceful())
        player = cast(typed, environment, device, stop, stack)
        if player is None:
            return stop.exit_code
        run = Run.create("runs", "run", config.env, config.agent, config.seed, config)
        try:
            results = _live(config, environment, player, run, stop)
        finally:
            player.save()
        after = player.remembered()
        facts = {
            "env": config.env,
            "agent": config.agent,
            "seed": config.seed,
            **results.summary(),
            "memory": dict(zip(("episodes", "steps"), after, strict=True)),
            "forgotten": player.forgotten(),
            "skipped_episodes": player.skipped(),
            "void_episodes": environment.void,
            "void_fault": environment.fault,
            "embedding": player.agent.embedding if isinstance(player.agent, AmiAgent) else None,
            "weights": player.origin,
            "learned_steps": player.learned_steps(),
            "run": str(run.folder),
        }
        run.finish("stopped" if stop.requested else "done", results=facts)
        environment.close()  # the films are of a second one
        report = _report(config, run, results, player, environment.spec.control_period, draw=not stop.requested)
    _tell(config, facts, player.before, report, bool(stop.requested))
    return stop.exit_code


def _live(config: Config, environment: Environment, player: Cast, run: Run, stop: Stop) -> Results:
    """Live until all episodes are lived or a signal came; each is kept in the run's folder as it ends."""
    results = Results(action_repeat=config.action_repeat)
    first = config.seed * EPISODES_A_SEED + config.first
    agent, world = Timed(player.agent), Watched(environment)
    began = time.perf_counter()
    with (
        EpisodeStore(run.folder / "episodes.sqlite") as record,
        console.progress(config.episodes, f"{config.agent} in {config.env}") as advance,
    ):
        for ended in live(world, agent, itertools.count(first), run.folder.name, journal=player.journal):
            player.study()
            for episode in ended:
                known = player.remember(episode)
                record.append(known)
                cost = world.final[known.seed][1] if environment.tells_cost else None
                results.add(known, cost)
                _note(run, known, cost)
                if len(results.success) % SAVE_EVERY == 0:
                    player.save()
                told = [success for success in results.success if success is not None]
                advance(1, f"success {sum(told)}/{len(told)}" if told else f"return {results.returns[-1]:.1f}")
            if len(results.success) >= config.episodes or stop.requested:
                break
    if player.journal is not None:
        player.journal.recover()  # an episode that a signal cut short
    results.seconds = time.perf_counter() - began
    results.plan_ms = agent.milliseconds
    return results


def _note(run: Run, episode: Episode, cost: float | None) -> None:
    surprise = None if episode.surprise is None else float(episode.surprise.mean())
    facts = {"seed": episode.seed, "success": episode.success, "return": float(episode.reward.sum())}
    run.metric(**facts, **({} if cost is None else {"cost": cost}), length=len(episode), surprise=surprise)


def _report(config: Config, run: Run, results: Results, player: Cast, period: float, draw: bool) -> Path:
    """Write report.html; where `draw`, with a moving picture of the first episode that succeeded, or of the first."""
    frames: list[np.ndarray] = []
    film = b""
    with EpisodeStore(run.folder / "episodes.sqlite") as record:
        ids = record.ids()
        if draw and ids:
            frames, film = _film(config, record.read((record.ids(success=True) or ids)[0]), period)
        for number, episode_id in enumerate(ids if config.video and film else [], start=1):
            path = run.folder / "videos" / f"episode-{number:04d}.gif"
            write_bytes(path, _film(config, record.read(episode_id), period)[1])
    if config.video and not film:
        console.say("no video: this environment cannot be drawn here (see `ami-agent doctor`)")
    return write_report(
        run.folder / "report.html",
        run.info,
        asdict(results),
        surprise=results.surprise,
        film=film or None,
        strip=filmstrip(frames) if frames else None,
        config=run.config,
        memory=(player.before[0], player.remembered()[0]),
        forgotten=player.forgotten(),
        control_period=period,
        known_place=_map(player),
        known_moments=_moments(player),
    )


def _map(player: Cast) -> str:
    """What the agent remembers of where it was, if it finds ways."""
    ways = player.agent.ways if isinstance(player.agent, AmiAgent) else None
    place = ways.latest if ways is not None else None
    return "" if place is None else place_map(place.places, place.ways, place.failures)


def _moments(player: Cast) -> str:
    """What the agent remembers, by what it is like."""
    memory = player.agent.memory if isinstance(player.agent, AmiAgent) else None
    return "" if memory is None else memory_map(*memory.overview(MAPPED))


def _film(config: Config, episode: Episode, period: float) -> tuple[list[np.ndarray], bytes]:
    """Pictures of an episode and a GIF of them that takes as long as the episode did; empty if it cannot be drawn."""
    frames = film_of(episode, parse_options(config.options), config.env)
    return frames, as_lived(frames, len(episode), period) if frames else b""


def _tell(config: Config, facts: dict[str, Any], before: tuple[int, int], report: Path, stopped: bool) -> None:
    if config.json:
        console.emit(facts)
        return
    rate, interval, plan = facts["success_rate"], facts["success_interval"], facts["plan_ms"]
    lived = f"{facts['episodes']} episodes, {facts['decisions']} decisions, {facts['env_steps']} env steps"
    lived += f" (action repeat {facts['action_repeat']})"
    if facts["episodes"]:
        lived += f", return {facts['return_mean']:.1f}"
    if facts["cost_mean"] is not None:
        lived += f", cost {facts['cost_mean']:.2f}"
    if rate is not None:
        lived += f", success {rate:.2f} (95 % interval {interval[0]:.2f} to {interval[1]:.2f})"
    lines = [f"{config.agent} in {config.env}: {lived}"]
    if config.agent == "ami":
        lines += [f"weights: {facts['weights']}, after {facts['learned_steps']} env steps of learning"]
    if plan["p50"] is not None and config.agent not in ("random", "noop"):
        lines += [f"time of a decision: {plan['p50']:.1f} ms (median), {plan['p99']:.1f} ms (99th percentile)"]
    if config.agent == "ami" and config.memory != "off":
        gone = f", {facts['forgotten']} forgotten" if facts["forgotten"] else ""
        lines += [f"memory: {before[0]} episodes before, {facts['memory']['episodes']} now{gone}"]
    if facts["skipped_episodes"]:
        lines += [f"damaged episodes left out: {facts['skipped_episodes']}; see `ami-agent memory verify`"]
    if facts["void_episodes"]:
        why = f" ({facts['void_fault']})" if facts["void_fault"] else ""
        lines += [f"void episodes, in which the physics failed: {facts['void_episodes']}{why}"]
    if facts["embedding"] == "meanwhile":
        lines += ["its new encoder saw old episodes during the run: what was planned depended on timing, too"]
    for line in [*lines, f"report: {report}"]:
        console.out.print(line, soft_wrap=True, markup=False)
    if stopped:
        console.say("stopped by a signal; what was lived is kept")
