"""Errors that a user can act on: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SamsegError(ValueError):
    """Base of every error that this package raises on purpose."""


class InputError(SamsegError):
    """Something that came in is not what it has to be.

    Example:
        >>> str(InputError("image data", expected="921600 bytes", got="10 bytes", remedy="check the driver"))
        'image data: expected 921600 bytes, got 10 bytes; check the driver'
    """

    def __init__(self, what: str, *, expected: str, got: str, remedy: str) -> None:
        self.what, self.expected, self.got, self.remedy = what, expected, got, remedy
        super().__init__(f"{what}: expected {expected}, got {got}; {remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known name closest to ``name``, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(known)}"
