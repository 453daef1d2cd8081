"""Random numbers that every shape draws: texture seeds and colours."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator


def draw_seed(rng: Rng) -> float:
    """Return where in the noise a surface takes its texture from."""
    return float(rng.uniform(0, 500))


def any_color(rng: Rng, *, saturation: float = 0.6, low: float = 0.04, high: float = 0.75) -> list[float]:
    """Return a random albedo: a grey value pulled towards a random hue."""
    grey = rng.uniform(low, high)
    hue = rng.uniform(0, 1, 3)
    share = rng.uniform(0, saturation)
    return [float(v) for v in np.clip(grey * (1 - share) + share * hue * grey * 2, 0.02, 0.9)]
