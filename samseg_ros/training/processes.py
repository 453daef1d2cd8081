"""How processes that read and augment are started."""

from __future__ import annotations

import multiprocessing

WORKERS = multiprocessing.get_context("forkserver")
"""A fork of a process whose libraries have threads may wait for them for ever; these are forked from a fresh one."""
WORKERS.set_forkserver_preload(["samseg_ros.training.cache"])  # else each worker imports torch anew
