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
from ami_envs.checks.trials import Fault, Subject, place, words
from ami_envs.checks.worth import (
    can_be_solved,
    keeps_sessions,
    needs_what_it_claims,
    says_something,
    tells_its_place,
)
from ami_envs.registry import find

__all__ = ["CHECKS", "Check", "Finding", "Subject", "examine"]


class Check(NamedTuple):
    run: Callable[[Subject], None]
    cure: str
    anyone: bool = False  # also asked of environments that are not made of our Tasks
    needs: tuple[str, ...] = ()  # checks that it can say nothing without

    @property
    def promise(self) -> str:
        return (self.run.__doc__ or "").strip()


KEEP = "keep what an episode needs in env.goal and env.hidden, not in the task"
OWN, RAISES = "mend the line that is named there", "mend what raises that"
FRESH, SAME = "hands_out_fresh_arrays", "repeats"

CHECKS = {
    check.run.__name__: check
    for check in (
        Check(lives, "correct what is named there; the other promises are tried once this one is kept", True),
        Check(hands_out_fresh_arrays, "copy what observe and achieved return: .copy()", True),
        Check(repeats, "draw only from the generator that reset is given; keep all state in the engine", True),
        Check(seeds_matter, "use the generator that reset is given for where things start", True, (FRESH,)),
        Check(follows_gymnasium, "see https://gymnasium.farama.org/api/env", True, (FRESH, SAME)),
        Check(ends_well, "make with gymnasium.make; let close be called twice", True),
        Check(rewards_by_goals, "compute the reward of step and compute_reward by one function of the goals", True),
        Check(restores_snapshots, KEEP, needs=(SAME,)),
        Check(copies, "keep only plain values in the task's constructor, live arrays in bind", needs=(SAME,)),
        Check(batches, "treat worlds alike: no sums or random draws across worlds", needs=(SAME,)),
        Check(says_something, "leave out of observe what never changes"),
        Check(can_be_solved, "mend the oracle, or where episodes start"),
        Check(needs_what_it_claims, "hide from the observation what is to be remembered or felt"),
        Check(keeps_sessions, "draw an episode from its rng and env.session_rng, not from env.visit", needs=(SAME,)),
        Check(tells_its_place, "let place be the entries of observe that say where the robot is, near above 0"),
        Check(offers_causes, "give each factor two ranges that do not meet; change only env.field", needs=(SAME,)),
        Check(intervenes_exactly, "write a factor's value from env.model, not from env.field", needs=(SAME,)),
        Check(imagines_other_causes, KEEP, needs=(SAME,)),
        Check(gives_each_world_its_causes, "write a factor into the worlds `ids` alone", needs=(SAME,)),
        Check(refuses_bad_actions, "leave the action to the engine"),
        Check(survives_bad_physics, "leave the physics to the engine", needs=(SAME,)),
    )
}


@dataclass(frozen=True)
class Finding:
    """What one check found: `fault` is empty where all is well, or where it was not tried."""

    check: str
    promise: str
    fault: str
    cure: str
    waits_for: str = ""  # the check whose fault must be mended before this one can be tried


def examine(id: str, options: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Run every check that applies to an id (see `registry.find`), one finding each; none after a failed first one.

    A check that needs what another has found broken is not tried: its fault would only hide the cause.
    """
    subject = Subject(find(id).id, options or {})
    broken: set[str] = set()
    for name, check in CHECKS.items():
        if not (subject.ours or check.anyone):
            continue
        cause = next((need for need in check.needs if need in broken), "")
        if cause:
            yield Finding(name, check.promise, "", "", cause)
            continue
        fault, cure = _try(check, subject)
        yield Finding(name, check.promise, fault, cure)
        if fault:
            broken.add(name)
            if check.run is lives:
                return


def _try(check: Check, subject: Subject) -> tuple[str, str]:
    """The fault that a check finds, and its cure; no fault where all is well."""
    try:
        check.run(subject)
    except Fault as error:
        return str(error), error.cure or check.cure
    except (Exception, SystemExit) as error:  # an environment may raise anything; what it raised is the finding
        own = check.run is not lives and place(error, subject)
        return words(error, subject), OWN if own else check.cure if subject.ours else RAISES
    return "", check.cure
