"""Student's t. `scipy.stats` gives the same numbers, but takes every command a second to import."""

from __future__ import annotations


def t_quantile(probability: float, degrees: float) -> float:
    """Return the value below which t lies with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_below(value: float, degrees: float) -> float:
    """Return the probability that t is at most this value."""
    from scipy.special import stdtr

    return float(stdtr(degrees, value))
