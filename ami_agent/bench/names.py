"""Who there is: names of agents as files have them, and as people read them."""

from __future__ import annotations

import re

OURS = "ours"
PARTS = (  # see `bench.ours`
    "no-planner", "no-ways", "no-prediction", "no-inverse", "no-curiosity", "no-bound", "no-angles", "three-steps",
    "saturated", "slow-targets", "no-expansion", "half-updates",
)  # fmt: skip
FLOORS, CEILINGS = ("random", "noop"), ("oracle", "oracle-planner")
SB3 = ("sac", "ppo", "td3", "sac-her")
NAMES = {"sac": "SB3 SAC", "ppo": "SB3 PPO", "td3": "SB3 TD3", "sac-her": "SB3 SAC + HER"}
NAMES |= {"noop": "do nothing", "oracle-planner": "oracle planner"}


def called(agent: str) -> str:
    """An agent's name as people read it: "ours-no-planner" is "ours, no planner". Those of others stay as they are, so
    that none looks like one of these."""
    if agent.removeprefix(f"{OURS}-") in PARTS:
        return agent.replace("-", ", ", 1).replace("-", " ")
    return NAMES.get(agent, agent)


def fault_of(name: object) -> str | None:
    """What is wrong with an agent's name, if anything is: it stands in file names and on pages, and must not look like
    one of these."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._+]|-(?!-)){0,47}", name):
        told = "letters, digits, '.', '_', '+' and single '-', up to 48, a letter or digit first"
        return f"agent {str(name)[:80]!r}: {told}"
    if name not in KNOWN and (like := LOOKS.get(_look(name))):
        return f"agent {name!r}: it looks like {like!r}"
    return None


def _look(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


KNOWN = (OURS, *(f"{OURS}-{part}" for part in PARTS), *FLOORS, *CEILINGS, *SB3)
LOOKS = {_look(look): name for name in KNOWN for look in (name, called(name))}
