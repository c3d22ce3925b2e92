"""What every environment promises, proven by trying: for `ami-agent env check`, for tests, for an author's own tests.

Foreign Gymnasium environments are held to what Gymnasium itself asks; worlds made of our Tasks to all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ami_envs.checks.anyone import (
    ends_well,
    follows_gymnasium,
    hands_out_fresh_arrays,
    repeats,
    rewards_by_goals,
    seeds_matter,
)
from ami_envs.checks.causes import (
    gives_each_world_its_causes,
    imagines_other_causes,
    intervenes_exactly,
    offers_causes,
)
from ami_envs.checks.engine import batches, copies, refuses_bad_actions, restores_snapshots, survives_bad_physics
from ami_envs.checks.first import lives
from ami_envs.checks.trials import Fault, Subject
from ami_envs.checks.worth import can_be_solved, keeps_sessions, needs_what_it_claims, says_something
from ami_envs.registry import find

__all__ = ["CHECKS", "Check", "Finding", "Subject", "examine"]


class Check(NamedTuple):
    run: Callable[[Subject], None]
    cure: str
    anyone: bool = False  # also asked of environments that are not made of our Tasks

    @property
    def promise(self) -> str:
        return (self.run.__doc__ or "").strip()


CHECKS = {
    check.run.__name__: check
    for check in (
        Check(lives, "mend that first: the other checks need it", True),
        Check(follows_gymnasium, "see https://gymnasium.farama.org/api/env", True),
        Check(repeats, "draw only from the generator that reset is given; keep all state in the engine", True),
        Check(seeds_matter, "use the generator that reset is given for where things start", True),
        Check(hands_out_fresh_arrays, "copy what observe and achieved return", True),
        Check(ends_well, "make with gymnasium.make; let close be called twice", True),
        Check(rewards_by_goals, "compute the reward of step and compute_reward by one function of the goals", True),
        Check(restores_snapshots, "keep what an episode needs in env.goal and env.hidden, not in the task"),
        Check(copies, "keep only plain values in the task's constructor, live arrays in bind"),
        Check(batches, "treat worlds alike: no sums or random draws across worlds"),
        Check(says_something, "leave out of observe what never changes"),
        Check(can_be_solved, "mend the oracle, or where episodes start"),
        Check(needs_what_it_claims, "hide from the observation what is to be remembered or felt"),
        Check(keeps_sessions, "draw an episode from its rng and env.session_rng, not from env.visit"),
        Check(offers_causes, "give each factor two ranges that do not meet, and change nothing outside env.field"),
        Check(intervenes_exactly, "write a factor's value from env.model, the compiled model, not from env.field"),
        Check(imagines_other_causes, "keep what an episode needs in env.goal and env.hidden, not in the task"),
        Check(gives_each_world_its_causes, "write a factor into the worlds `ids` alone"),
        Check(refuses_bad_actions, "leave the action to the engine"),
        Check(survives_bad_physics, "leave the physics to the engine"),
    )
}


@dataclass(frozen=True)
class Finding:
    """What one check found: `fault` is empty where all is well."""

    check: str
    promise: str
    fault: str
    cure: str


def examine(id: str, options: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Run every check that applies to an id (see `registry.find`), one finding each; none after a failed first one."""
    subject = Subject(find(id).id, options or {})
    for name, check in CHECKS.items():
        if subject.ours or check.anyone:
            fault = ""
            try:
                check.run(subject)
            except Fault as error:
                fault = str(error)
            except Exception as error:  # an environment may raise anything; what it raised is the finding
                fault = f"{type(error).__name__}: {error}"
            yield Finding(name, check.promise, fault, check.cure)
            if fault and check.run is lives:
                return
