"""Student's t is that of scipy.stats, to the last bit: numbers of earlier reports do not change."""

import math

import pytest
from scipy import stats

from srcgcnn.analysis.student import t_below, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 4, 7.3, 50, 1e6])
def test_quantiles_and_probabilities_are_those_of_scipy_stats(degrees):
    for probability in (0.8, 0.9, 0.95, 0.975):
        assert t_quantile(probability, degrees) == stats.t.ppf(probability, degrees)
    for value in (-math.inf, -3.0, -0.1, 0.0, 2.0, math.inf):
        assert t_below(value, degrees) == stats.t.cdf(value, degrees)
        assert t_below(-value, degrees) == stats.t.sf(value, degrees)
