"""How well the agent perceives: `python benchmarks/perceiving.py [--worlds ID ...] [--weights FILE] [--json FILE]`.

Probes: what of the simulator's truth a linear map reads from one latent (the mass: from eight, and the actions between
them), in episodes it was not fitted to. The causes of each episode are drawn from their training ranges.

Surprise: how far off the world model's prediction of the next latent is, in running standard deviations, after
something impossible has happened to the cube, against the twin of the same seed and actions in which nothing has. The
agent senses vectors, the cube's place and speed among them; nothing here is seen in pictures.

Counterfactuals: from a moment at which the cube is handled two futures, each of a random action held for a while, are
lived in the simulator and imagined by the world model, which is not told under which cause: which brings more reward?

Beside ours stand measures that need no such learning: an untrained encoder and model of the same shape, with the same
scales of the senses; the senses themselves, with a linear prediction of the next ones; the mere change of the senses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from cells import machine, percent

from ami_agent.agent import AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import find_brain
from ami_agent.console import progress
from ami_agent.environment import Environment
from ami_agent.evaluation.perception import auroc, fit_probe, normalised, r2
from ami_agent.evaluation.twins import (
    HANDLED,
    VIOLATIONS,
    Lives,
    Twins,
    drawn_onset,
    expert_lives,
    handled,
    relived,
    twins,
)
from ami_agent.files import write_json
from ami_agent.planning.cem import imagine
from ami_agent.runs import versions
from ami_envs.core import Snapshot

SEEDS = 3_000_000  # the first episode: training does not come here
MOMENTS = 8  # that the mass is read from
AHEAD = 5  # steps of a future
CAUSES = {"as it is": {}, "mass x 5": {"mass": 5.0}, "friction x 0.3": {"friction": 0.3}, "gain x 0.6": {"gain": 0.6}}

World = Literal["ami/Reach-v0", "ami/Push-v0", "ami/Stack-v0"]
Errors = Callable[[Lives], np.ndarray]  # (T, n)
Interval = tuple[float, float, float]  # a value, and its 95 % interval


# -- who is measured ------------------------------------------------------------------------------------------------


def untrained(brain: Brain) -> Brain:
    """One of the same shape that has learned nothing but how its senses are scaled."""
    fresh = Brain(brain.spec, brain.config, seed=0)
    fresh.model.encoder.normalise.load_state_dict(brain.model.encoder.normalise.state_dict())
    return fresh


def senses(lives: Lives) -> np.ndarray:
    return np.concatenate([lives.senses[name] for name in sorted(lives.senses)], axis=-1)


@torch.no_grad()
def latents(brain: Brain, lives: Lives) -> np.ndarray:
    return brain.perceive(lives.senses).numpy()


def by(brain: Brain) -> Errors:
    """The agent's own surprise."""
    agent = AmiAgent(brain)
    return lambda lives: agent.surprise(lives.senses, lives.action, lives.reward)


def linear(ordinary: Lives) -> tuple[Errors, Errors]:
    """How far off a linear prediction of the senses' change is, which is fitted to ordinary lives; and how large the
    change is, as a prediction that nothing changes is wrong: both in the spread that the change has there."""
    x, step = np.concatenate([senses(ordinary)[:-1], ordinary.action], -1), np.diff(senses(ordinary), axis=0)
    episodes = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])[ordinary.lived]
    probe = fit_probe(x[ordinary.lived], step[ordinary.lived], episodes)
    scale = np.maximum(step[ordinary.lived].std(0), 1e-6)

    def change(lives: Lives) -> np.ndarray:
        return np.diff(senses(lives), axis=0) / scale

    def predicted(lives: Lives) -> np.ndarray:
        return probe(np.concatenate([senses(lives)[:-1], lives.action], -1)) / scale

    return lambda lives: size(change(lives) - predicted(lives)), lambda lives: size(change(lives))


def size(vectors: np.ndarray) -> np.ndarray:
    """Root mean square over the last axis."""
    return np.sqrt(np.square(vectors).mean(-1))


# -- probes -----------------------------------------------------------------------------------------------------------


def past(values: np.ndarray, action: np.ndarray, t: np.ndarray, world: np.ndarray, moments: int) -> np.ndarray:
    """The latest moments of values (T+1, n, F) at times t (m,) of worlds (m,), and the actions between: (m, ...)."""
    seen = [values[t - k, world] for k in range(moments)]
    return np.concatenate([*seen, *(action[t - k, world] for k in range(1, moments))], axis=-1)


def probed(id: str, brain: Brain, seeds: range) -> dict[str, dict[str, Interval]]:
    """Of each quantity, R2 by ours and by the others. The first half of the episodes fits the probes, the second is
    read; its mass is one guess an episode, the mean of those of its moments."""
    lives = expert_lives(Environment(id, len(seeds), {"factors": "training"}), seeds)
    features = {"ours": latents(brain, lives), "untrained": latents(untrained(brain), lives), "senses": senses(lives)}
    found: dict[str, dict[str, Interval]] = {}
    for quantity, truth in lives.truth.items():
        lasting = quantity == "cube mass"
        moments, which = (MOMENTS, lives.moments & HANDLED[id](lives.truth)) if lasting else (1, lives.moments)
        which[: moments - 1] = False
        t, world = np.nonzero(which)
        fit, y = world < len(seeds) // 2, truth[t, world]
        for name, values in features.items():
            x = past(values, lives.action, t, world, moments).astype(np.float64)
            told = y[~fit], fit_probe(x[fit], y[fit], world[fit])(x[~fit]), world[~fit]
            found.setdefault(quantity, {})[name] = r2(*(an_episode(*told) if lasting else told))
    return found


def an_episode(truth: np.ndarray, guess: np.ndarray, world: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean truth and the mean guess, (episodes, 1) each, of rows (m, 1) of worlds (m,); and which these are."""
    known, number, count = np.unique(world, return_inverse=True, return_counts=True)
    means = [np.bincount(number, rows[:, 0]) / count for rows in (truth, guess)]
    return means[0][:, None], means[1][:, None], known


# -- surprise ---------------------------------------------------------------------------------------------------------


def surprise(errors: np.ndarray, usual: np.ndarray, pair: Twins) -> np.ndarray:
    """The most that each episode surprises from its onset on, (n,); `usual` errors (m,) are those of ordinary life."""
    return pair.most(normalised(errors, float(usual.mean()), float(usual.var())))


def violated(id: str, brain: Brain, seeds: range, advance: Callable[..., None]) -> dict[str, dict[str, np.ndarray]]:
    """Of each violation, the surprise (2, pairs) of impossible episodes and of their possible twins, by ours and by the
    others."""
    n = len(seeds)
    first, ordinary = (expert_lives(Environment(id, n), some) for some in (seeds, range(seeds.stop, seeds.stop + n)))
    by_line, by_change = linear(ordinary)
    measures: dict[str, Errors] = {
        "ours": by(brain),
        "untrained": by(untrained(brain)),
        "linear": by_line,
        "change": by_change,
    }
    usual = {name: errors(ordinary)[ordinary.lived] for name, errors in measures.items()}
    found: dict[str, dict[str, np.ndarray]] = {}
    for two in twins(Environment(id, n), seeds, first, drawn_onset(handled(id, first), seeds.start)):
        both = two.impossible, two.possible
        found[two.violation] = {
            name: np.stack([surprise(errors(one), usual[name], two)[two.pair] for one in both])
            for name, errors in measures.items()
        }
        advance(1, f"{id}, {two.violation}")
    return found


# -- counterfactuals --------------------------------------------------------------------------------------------------


def ranked(id: str, brain: Brain, seeds: range) -> dict[str, tuple[int, int]]:
    """Under each cause, how many of how many pairs of futures the model ranks as the simulator does. Moments from which
    a future would end the episode, under any of them, are left out."""
    first, rng = expert_lives(Environment(id, len(seeds)), seeds), np.random.default_rng(seeds.start)
    eligible = handled(id, first) if id in HANDLED else first.lived
    onset, states = drawn_onset(eligible, seeds.start), dict[int, Snapshot]()
    relived(
        Environment(id, len(seeds)),
        seeds,
        first.action,
        onset,
        lambda engine, ids: states.update({int(i): engine.get_state(int(i)) for i in ids}),
    )
    futures = rng.uniform(-1, 1, (len(seeds), 2, 1, first.action.shape[-1])).astype(np.float32).repeat(AHEAD, axis=2)
    imagined = imagined_rewards(brain, latents(brain, first)[onset, np.arange(len(seeds))], futures)
    batch: Any = Environment(id, 1).vector
    causes = {name: cause for name, cause in CAUSES.items() if cause.keys() <= batch.factor_space.keys()}
    told = {
        name: {i: [batch.counterfactual(state, cause, one) for one in futures[i]] for i, state in states.items()}
        for name, cause in causes.items()
    }
    whole = [i for i in states if all(len(steps) == AHEAD for by in told.values() for steps in by[i])]
    by_model = imagined[whole, 0] > imagined[whole, 1]
    found = {}
    for name, by in told.items():
        lived = np.array([[sum(step[1] for step in steps) for steps in by[i]] for i in whole])
        found[name] = int(((lived[:, 0] > lived[:, 1]) == by_model).sum()), len(whole)
    return found


@torch.no_grad()
def imagined_rewards(brain: Brain, latent: np.ndarray, futures: np.ndarray) -> np.ndarray:
    """latent (B, D), futures (B, N, T, A) -> sums of the rewards that the model expects of them, (B, N)."""
    actions = torch.from_numpy(futures)
    seen = imagine(brain.model, torch.from_numpy(latent), actions)
    return brain.model.reward(seen[:, :, :-1], actions).sum(-1).numpy()


# -- tables -----------------------------------------------------------------------------------------------------------


def shown(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def probe_table(results: dict[str, dict[str, dict[str, Interval]]]) -> list[str]:
    lines = ["| R2 | | ours | untrained | the senses |", "|---" * 5 + "|"]
    for id, found in results.items():
        for quantity, by in found.items():
            cells = [shown(*by[name]) for name in ("ours", "untrained", "senses")]
            lines.append(f"| `{id}` | {quantity} | {' | '.join(cells)} |")
    return lines


def surprise_table(results: dict[str, dict[str, dict[str, np.ndarray]]]) -> list[str]:
    heads = "| AUROC | | pairs | ours | untrained | linear | change | ours, impossible twin above its own, % |"
    lines = [heads, "|---" * 8 + "|"]
    for id, found in results.items():
        for violation, by in found.items():
            cells = [shown(*auroc(*by[name])) for name in ("ours", "untrained", "linear", "change")]
            impossible, possible = by["ours"]
            own = percent(int((impossible > possible).sum()), len(possible))
            lines.append(f"| `{id}` | {violation} | {len(possible)} | {' | '.join(cells)} | {own} |")
    return lines


def ranking_table(results: dict[str, dict[str, tuple[int, int]]]) -> list[str]:
    lines = [f"| ranked alike, % | {' | '.join(CAUSES)} |", "|---" * (len(CAUSES) + 1) + "|"]
    for id, found in results.items():
        cells = [percent(*found[cause]) if cause in found else "" for cause in CAUSES]
        lines.append(f"| `{id}` | {' | '.join(cells)} |")
    return lines


def main(
    worlds: tuple[World, ...] = get_args(World),
    weights: str = "pretrained",
    episodes: int = 600,
    pairs: int = 200,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Print the tables in Markdown, under the machine and the versions that made them.

    Args:
        worlds: where; a cube, and what may happen to it, have Push and Stack alone.
        weights: "pretrained", or a file, which fits one world.
        episodes: that probes are fitted to and read in, half each.
        pairs: of twins of each violation, and of futures.
        seed: other episodes for each.
        json: write the raw scores to this file, too.
    """
    torch.set_num_threads(1)
    start = SEEDS + 10_000 * seed
    probes, surprises, rankings = {}, {}, {}
    with progress(sum(2 + len(VIOLATIONS) * (id in HANDLED) for id in worlds), "perceiving") as advance:
        for id in worlds:
            brain, _ = find_brain(Environment(id).spec, Path(), weights)
            probes[id] = probed(id, brain, range(start, start + episodes))
            advance(1, f"{id}, probes")
            others = range(start + episodes, start + episodes + pairs)
            if id in HANDLED:
                surprises[id] = violated(id, brain, others, advance)
            rankings[id] = ranked(id, brain, others)
            advance(1, f"{id}, counterfactuals")
    print(f"{episodes} episodes for probes, {pairs} for each violation and cause, seed {seed}; 95 % intervals")
    print(f"{machine(f', {time.process_time():.0f} s of CPU time')}\n")
    tables = probe_table(probes), surprise_table(surprises), ranking_table(rankings)
    print("\n\n".join("\n".join(table) for table in tables))
    if json:
        raw = {"probes": probes, "surprises": surprises, "rankings": rankings}
        write_json(json, {"weights": weights, "seed": seed, "versions": versions(), **raw})


if __name__ == "__main__":
    tyro.cli(main)
