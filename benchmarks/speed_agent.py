"""How fast the agent is: planning against the bare calls of its model, learning against bare gradients, living."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from rows import Row, ratios, row, turns

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.baselines.simple import RandomAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import shipped_path
from ami_agent.cost.objectives import Return
from ami_agent.environment import Environment
from ami_agent.learning.learner import Learner
from ami_agent.learning.live import live
from ami_agent.learning.student import StudyConfig
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.planning.cem import CEMConfig
from ami_agent.protocols import Batch
from ami_agent.world_model.latent import ModelConfig

PUSH = "ami/Push-v0"
TURN = 8  # plans, updates or env steps a turn
CALLS = ("predict", "reward", "termination", "value", "act")
WIDE = BrainConfig(EncoderConfig(latent=512, width=512), ModelConfig(width=512))
THOROUGH = CEMConfig(samples=512, iterations=6)


def thinking(brain: Brain, n: int, config: AgentConfig, device: str = "cpu") -> tuple[AmiAgent, dict[str, np.ndarray]]:
    """An agent in the midst of n worlds, and what it sees."""
    environment, agent = Environment(PUSH, n), AmiAgent(brain, config, device=device)
    observation = environment.reset(seeds=list(range(n)))
    agent.reset(np.ones(n, bool))
    for _ in range(3):
        agent.act(observation)
    return agent, observation


def bare_calls(agent: AmiAgent, work: Callable[[], object]) -> Callable[[], object]:
    """The model's calls that `work` makes, with the very arguments, and nothing else."""
    calls: list[tuple[Callable, tuple]] = []

    def watched(call: Callable) -> Callable:
        def watch(*arguments: Any) -> Any:
            before = len(calls)
            result = call(*arguments)
            calls[before:] = [(call, arguments)]  # without those that it makes itself
            return result

        return watch

    models = (agent.model, agent.inference.view)
    for model in models:
        for name in CALLS:
            setattr(model, name, watched(getattr(model, name)))
    work()
    for model in models:
        for name in CALLS:
            delattr(model, name)
    return lambda: [call(*arguments) for call, arguments in calls]


def plan_rows(rounds: int) -> Iterator[Row]:
    """The shipped agent: what a plan takes, over what its model's calls take, and what it takes in bf16."""
    brain = Brain.load(shipped_path(PUSH))
    for n in (1, 8):
        agent, seen = thinking(brain, n, AgentConfig())
        half, _ = thinking(brain, n, AgentConfig(precision="bf16"))
        with torch.inference_mode():
            times = turns(plan_works(agent, half, seen), 3 * rounds, TURN)
        each = [1e3 * value / n for value in times["act"]]
        yield row(f"decision in Push, {n} at once", each, "CPU-ms each", "<= 20" if n == 1 else "")
        yield row(f"plan / its model calls, {n} at once", ratios(times, "plan", "plan's calls"), "x", "<= 1.15")
        yield row(f"decision / its model calls, {n} at once", ratios(times, "decision", "decision's calls"), "x")
        yield row(f"plan by torch's own layers / by ours, {n} at once", ratios(times, "torch's plan", "plan"), "x")
        yield row(f"decision in fp32 / in bf16, {n} at once", ratios(times, "decision", "in bf16"), "x", ">= 1.6")


def plan_works(agent: AmiAgent, half: AmiAgent, seen: dict[str, np.ndarray]) -> dict[str, Callable[[], object]]:
    latent = agent.brain.perceive(seen)
    seeds = torch.arange(len(latent))
    recalled = agent._recalled(latent)
    proposals, _ = agent._proposals(latent, seeds, *map(torch.from_numpy, (recalled.actions, recalled.distances)))
    start, model = proposals[:, 0].clone(), agent.model
    own = Return(model, model.discount)

    def plan() -> object:
        return agent.planner.plan(agent.inference.view, latent, agent.objective, seeds, start, proposals)

    def decision() -> object:
        return agent.decide(latent)

    return {
        "act": lambda: agent.act(seen),
        "torch's plan": lambda: agent.planner.plan(model, latent, own, seeds, start, proposals),
        "plan": plan,
        "plan's calls": bare_calls(agent, plan),
        "decision": decision,
        "decision's calls": bare_calls(agent, decision),
        "in bf16": lambda: half.decide(latent),
    }


def wide_rows(rounds: int) -> Iterator[Row]:
    """A large model and a thorough search."""
    brain = Brain(Brain.load(shipped_path(PUSH)).spec, WIDE)
    (full, seen), (half, _) = (thinking(brain, 1, AgentConfig(THOROUGH, precision=p)) for p in ("fp32", "bf16"))  # type: ignore[arg-type]
    times = turns({"fp32": lambda: full.act(seen), "bf16": lambda: half.act(seen)}, rounds, 1)
    size = "latent and width 512, 512 samples x 6"
    yield row(f"decision, {size}", [1e3 * value for value in times["bf16"]], "CPU-ms")
    yield row(f"decision in fp32 / in bf16, {size}", ratios(times, "fp32", "bf16"), "x", ">= 1.6")


def cuda_rows(rounds: int) -> Iterator[Row]:
    """On a GPU, by the clock: a large model and a thorough search, for one world and for 256 at once."""
    if not torch.cuda.is_available():
        return
    brain, rates = Brain(Brain.load(shipped_path(PUSH)).spec, WIDE), []
    for n in (1, 256):
        agent, seen = thinking(brain, n, AgentConfig(THOROUGH, precision="bf16"), "cuda")
        with torch.inference_mode():
            latent, values = brain.perceive(seen), []
            for _ in range(rounds):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(TURN):
                    agent.decide(latent)
                torch.cuda.synchronize()
                values.append(1e3 * (time.perf_counter() - start) / TURN)
        rates.append([n / value for value in values])
        yield row(f"plan on CUDA, 512 samples x 6, {n} at once", values, "ms", "<= 2" if n == 1 else "")
    many = [b / a for a, b in zip(*rates, strict=True)]
    yield row("plans a second on CUDA, 256 at once / 1", many, "x", ">= 20")


def update_rows(rounds: int) -> Iterator[Row]:
    """An update of the shipped brain as it learns by default, over the same losses' gradients alone."""
    brain = Brain.load(shipped_path(PUSH))
    senses, actions, model = brain.spec.senses, brain.spec.action_size, brain.model
    n, steps = StudyConfig.batch, StudyConfig.window
    observation = {name: torch.rand(n, steps + 1, *shape) for name, shape in senses.items()}
    reward, no = torch.rand(n, steps), torch.zeros(n, steps)
    batch = Batch(observation, torch.rand(n, steps, actions), reward, no, torch.ones(n, steps))
    learner, generator = Learner(brain), torch.Generator().manual_seed(0)
    policy = list(model.policy.parameters())
    apart = {id(weight) for weight in (*policy, *model.targets.parameters())}
    rest = [weight for weight in model.parameters() if id(weight) not in apart]

    def gradients() -> None:
        loss, metrics = model.loss(batch, generator)
        torch.autograd.grad(loss, rest)
        torch.autograd.grad(
            model.policy_loss(*(metrics[name] for name in ("latents", "lived", "weight")), generator), policy
        )

    times = turns({"update": lambda: learner.update(batch, generator), "gradients": gradients}, rounds, TURN)
    yield row(f"update, windows x steps {n} x {steps}", [1e3 * value for value in times["update"]], "CPU-ms")
    yield row("update / its gradients", ratios(times, "update", "gradients"), "x")


def living_rows(rounds: int) -> Iterator[Row]:
    """Episodes of random actions as they are collected, over the same world's bare steps."""
    for n in (1, 8):
        collected, bare = Environment(PUSH, n), Environment(PUSH, n).vector
        ended = live(collected, RandomAgent(collected.spec.action_size, 0), itertools.count())
        bare.action_space.seed(0)
        bare.reset(seed=0)

        def step(bare: Any = bare) -> None:
            _, _, terminated, truncated, _ = bare.step(bare.action_space.sample())
            if (over := terminated | truncated).any():
                bare.reset(options={"reset_mask": over})

        times = turns({"collect": lambda: next(ended), "step": step}, rounds, 30 * TURN)  # noqa: B023
        yield row(f"collecting in Push / bare steps, {n} at once", ratios(times, "collect", "step"), "x")


PARTS = [plan_rows, wide_rows, cuda_rows, update_rows, living_rows]
