"""The house rules, read off the source: who may import whom, what is never called, how long things may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = [ROOT / "ami_agent", ROOT / "envs" / "ami_envs"]
FILES = sorted(path for folder in SOURCE for path in folder.rglob("*.py"))
ALL_FILES = sorted({*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")})

TOOLS = {"errors", "protocols", "configs", "files", "console", "signals", "runs", "checkpoints"}
PARTS = {"perception", "world_model", "cost", "memory", "planning", "reasoning", "baselines"}
AGENT = {
    "agent", "brain", "brains", "environment", "repeat", "places", "angles", "foreign", "learning", "evaluation",
    "bench",
}  # fmt: skip
TOP = {"commands", "cli", "__main__"}

# What each of ami_agent's modules and packages may import of ami_agent, besides itself.
MAY: dict[str, set[str]] = {
    "errors": set(),
    "protocols": {"errors"},
    **{tool: TOOLS - {tool} for tool in TOOLS - {"errors", "protocols"}},
    **{part: {"errors", "protocols"} for part in PARTS},
    **{name: TOOLS | PARTS | AGENT for name in AGENT},
    **{name: TOOLS | PARTS | AGENT | TOP for name in TOP},
    "__init__": set(),
}
WITHOUT_ENVIRONMENTS = TOOLS  # all the others may import ami_envs
NEVER_IN_ENVIRONMENTS = {"torch", "ami_agent"}
HEAVY = {"torch", "OpenGL", "imageio"}  # not at the import of ami_envs

BANNED = {
    r"pickle": "pickle, cloudpickle and allow_pickle run code on load",
    r"\btorch\.load\b": "torch.load may run code; use ami_agent.checkpoints",
    r"(?<![\w.])eval\(": "eval runs text as code",
    r"\byaml\.load\b": "yaml.load may run code",
    r"shell\s*=\s*True": "a shell reads names as commands",
}
MAX_FILE, MAX_FUNCTION = 350, 60  # lines


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def module_name(path: Path) -> str:
    base = ROOT / "envs" if path.is_relative_to(ROOT / "envs") else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of every import in `path`, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            package = module_name(path).split(".")[: -node.level] if node.level else []
            stem = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{stem}.{alias.name}", node.lineno


def by_file(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


@by_file(FILES)
def test_imports(path: Path) -> None:
    package, *rest = module_name(path).split(".")
    wrong = []
    for name, line in imports(path):
        top, *inner = name.split(".")
        if package == "ami_envs":
            if top in NEVER_IN_ENVIRONMENTS:
                wrong.append(f"{where(path, line)}: ami_envs knows no {top}")
            continue
        own = rest[0]
        if own not in MAY:
            wrong.append(f"{where(path, line)}: give ami_agent/{own} a place in MAY (tests/test_architecture.py)")
        elif top == "ami_envs" and own in WITHOUT_ENVIRONMENTS:
            wrong.append(f"{where(path, line)}: {own} knows no environments")
        elif top == "ami_agent" and inner and inner[0] not in MAY[own] | {own}:
            wrong.append(f"{where(path, line)}: {own} may import {', '.join(sorted(MAY[own]))}, not {inner[0]}")
    assert not wrong, "\n".join(wrong)


@by_file([path for path in FILES if path.is_relative_to(ROOT / "envs")])
def test_environments_import_lightly(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        heavy = HEAVY.intersection(name.split(".")[0] for name in names)
        assert not heavy, f"{where(path, node.lineno)}: import {heavy} where it is used, not at the top"


@by_file(FILES)
def test_nothing_runs_code_from_data(path: Path) -> None:
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for pattern, reason in BANNED.items():
            assert not re.search(pattern, text), f"{where(path, line)}: {reason}"


@by_file(FILES)
def test_no_assert_outside_tests(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), (
            f"{where(path, node.lineno)}: `python -O` drops assert; raise an error with a message"
        )


@by_file(ALL_FILES)
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= MAX_FILE, f"{where(path, lines)}: {lines} lines, at most {MAX_FILE}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION, (
                f"{where(path, node.lineno)}: {node.name} has {length} lines, at most {MAX_FUNCTION}"
            )
