"""Which code made a result."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

GIT_TIMEOUT_S = 5.0


@cache
def revision() -> str:
    """Return the git revision of the source tree that runs, ``…-dirty`` if changed; empty if installed."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or not a repository of ours
        return ""
    return found.stdout.strip()
