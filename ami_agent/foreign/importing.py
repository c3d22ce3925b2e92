"""Importing what others' environments need."""

from __future__ import annotations

import importlib

from ami_agent.errors import MissingError


def need(module: str, id: str, cure: str) -> None:
    """Import a module that an environment needs. Raises MissingError, with the cure, if it cannot be."""
    try:
        importlib.import_module(module)
    except Exception as error:  # of the many packages that it may import
        absent = isinstance(error, ModuleNotFoundError) and error.name == module
        why = "which is not installed" if absent else f"which cannot be imported: {error}"
        raise MissingError(f"{id} needs {module}, {why}; {cure}") from error
