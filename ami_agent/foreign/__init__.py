"""Environments of other projects, that need more than their package to be found: a namespace of ids each."""

from __future__ import annotations

from ami_agent.foreign import dmc, ogbench


def register(id: str) -> None:
    """Put what the namespace of `id` stands for into Gymnasium's registry, if it is one of these.

    Raises MissingError, with the cure, where a package is missing or does not work; UsageError for an id that the
    project is known not to have.
    """
    for project in (dmc, ogbench):
        if id.startswith(project.NAMESPACE):
            project.register(id)
