from __future__ import annotations

import pytest


class Silent:
    """A progress bar that shows nothing."""

    def __init__(self, what):
        pass

    def __enter__(self):
        return lambda done, total: None

    def __exit__(self, *_):
        return None


@pytest.fixture(scope="session")
def silent():
    """Return a kind of progress bar that shows nothing."""
    return Silent
