"""Environments of other projects, that need more than their package to be found: a namespace of ids each."""

from __future__ import annotations

from ami_agent.foreign import dmc, ogbench

PROJECTS = (dmc, ogbench)


def knows(id: str) -> bool:
    """Whether an id is in the namespace of one of these projects, whose episodes end by themselves."""
    return any(id.startswith(project.NAMESPACE) for project in PROJECTS)


def register(id: str) -> None:
    """Put what the namespace of `id` stands for into Gymnasium's registry, if it is one of these.

    Raises MissingError, with the cure, where a package is missing or does not work; UsageError for an id that the
    project is known not to have.
    """
    for project in PROJECTS:
        if id.startswith(project.NAMESPACE):
            project.register(id)
