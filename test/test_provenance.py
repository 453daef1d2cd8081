from __future__ import annotations

import subprocess
from pathlib import Path

from samseg_ros.provenance import revision


def test_the_revision_is_that_of_git_or_nothing(project_root: Path) -> None:
    command = ["git", "-C", str(project_root), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert revision().removesuffix("-dirty") == (head[:12] if head else "")
