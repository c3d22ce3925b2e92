"""Print a command as README.md gives it: ``python tests/readme.py run``.

The command is the fenced block after the line ``<!-- command:NAME -->``; CI runs it, so that it cannot drift.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(name: str) -> str:
    """The text of the block marked `name`; exits with a message if README.md has none."""
    marked = rf"<!-- command:{re.escape(name)} -->\s*\n```\w*\n(.*?)\n```"
    found = re.search(marked, README.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        sys.exit(f"README.md has no block marked <!-- command:{name} -->")
    return found[1].strip()


if __name__ == "__main__":
    print(command(sys.argv[1]))
