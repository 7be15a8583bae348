#!/usr/bin/env python3
"""Simulated sweeps with known truth: do the intervals cover, the tests hold their level, the saturation depth appear?

    python benchmarks/interval_coverage.py --sweeps 1000 --out docs/img

An error is mu(T) + seed + crystal + both, the crystal part skewed as absolute errors are (exponential), the two
variants of a comparison sharing most of it. Truth is the mean over all seeds and crystals. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from srcgcnn.analysis.error_table import ErrorTable
from srcgcnn.analysis.intervals import LEVEL, Repeats, interval_of, over_repeats, seeds_and_crystals

PILOT_SEEDS = 60
RESAMPLES = 4000


@dataclass(frozen=True)
class World:
    """Planted truth, eV/atom. The defaults are what a sweep of 2,000 structures showed (`sweeps/short.toml`).

    Attributes:
        seed: deviation of a trial's error over seeds.
        crystal: deviation of the error over crystals.
        both: deviation of what is special to a seed and a crystal.
        own: deviation over crystals of what is special to a variant.
    """

    mean: float = 0.14
    seed: float = 0.004
    crystal: float = 0.13
    both: float = 0.06
    own: float = 0.05


def errors(world: World, mean: float, seeds: int, shared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the errors of one variant, [S, C]; `shared` [C] has mean 0 and deviation `crystal`."""
    crystals = len(shared)
    own = world.own * rng.standard_normal(crystals)
    both = world.both * rng.standard_normal((seeds, crystals))
    return mean + world.seed * rng.standard_normal((seeds, 1)) + shared + own + both


def shared_part(world: World, crystals: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how hard each crystal is: skewed, mean 0."""
    return world.crystal * (rng.exponential(size=crystals) - 1)


def coverage(world: World, seeds: int, crystals: int, sweeps: int) -> dict[str, float]:
    """Share of sweeps whose interval holds the truth: of one variant, and of a difference of two."""
    rng = np.random.default_rng([seeds, crystals])
    hits: dict[str, list[bool]] = {}

    def note(name: str, low: float, high: float, truth: float) -> None:
        hits.setdefault(name, []).append(bool(low <= truth <= high))

    for _ in range(sweeps):
        shared = shared_part(world, crystals, rng)
        one = errors(world, world.mean, seeds, shared, rng)
        other = errors(world, world.mean, seeds, shared, rng)
        for what, sample, truth in (("error", one, world.mean), ("difference", one - other, 0.0)):
            both, single = seeds_and_crystals(sample), over_repeats(sample.mean(axis=1))
            note(f"{what}: seeds and crystals, t", both.low, both.high, truth)
            note(f"{what}: bootstrap over both", *bootstrap_seeds_and_crystals(sample), truth)
            note(f"{what}: seeds only, t", single.low, single.high, truth)
            note(f"{what}: bootstrap over seeds", *bootstrap_seeds(sample.mean(axis=1)), truth)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def bootstrap_seeds(means: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap over seeds."""
    drawn = bootstrap(
        (means,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def bootstrap_seeds_and_crystals(errors: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap that draws seeds and crystals independently (the pigeonhole bootstrap, Owen 2007)."""
    seeds, crystals = errors.shape
    means = np.einsum("rs,rs->r", drawn_shares(seeds, 0), drawn_shares(crystals, 1) @ errors.T)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@lru_cache(maxsize=4)
def drawn_shares(count: int, random_seed: int) -> np.ndarray:
    """Draw how often each of `count` things is drawn, as shares: float64 [R, count]."""
    generator = np.random.default_rng(random_seed)
    return generator.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


ROWS, FEATURES, NOISE, SEED_NOISE = 200, 20, 1.0, 0.02


def coverage_over_splits(splits: int, seeds: int, sweeps: int) -> dict[str, float]:
    """Share of sweeps over random splits (60/20/20) of one data set whose interval holds the truth.

    Here trials really train (least squares on noisy rows), because splits of one data set share rows in ways that no
    sum of random parts has. Truth is the mean absolute error, on new rows, of models that train on new data sets.
    """
    rng = np.random.default_rng([splits, seeds])
    train, test = int(0.6 * ROWS), int(0.2 * ROWS)
    truth = float(np.mean([_fitted_errors(*_data(train + 2000, rng), train, 2000).mean() for _ in range(1000)]))
    hits: dict[str, list[bool]] = {"printed": [], "as if splits were independent": []}
    for _ in range(sweeps):
        rows, targets = _data(ROWS, rng)
        by_split = {}
        for split in range(splits):
            order = rng.permutation(ROWS)
            errors = _fitted_errors(rows[order], targets[order], train, test)
            by_split[split] = pd.DataFrame(errors + SEED_NOISE * rng.standard_normal((seeds, 1)))
        plain = over_repeats(np.array([frame.to_numpy().mean() for frame in by_split.values()]))
        for name, found in (("printed", interval_of(Repeats(by_split, test / train))), (list(hits)[1], plain)):
            hits[name].append(bool(found.low <= truth <= found.high))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def _data(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.standard_normal((count, FEATURES))
    return rows, rows.sum(axis=1) + NOISE * rng.standard_normal(count)


def _fitted_errors(rows: np.ndarray, targets: np.ndarray, train: int, test: int) -> np.ndarray:
    """Train on the first rows, return the absolute errors on the last ones, float64 [test]."""
    weights, *_ = np.linalg.lstsq(rows[:train], targets[:train], rcond=None)
    return np.abs(rows[-test:] @ weights - targets[-test:])


def study_of(world: World, means: dict[int, float], seeds: int, crystals: int, rng: np.random.Generator):
    """Simulate one line of variants; returns their Repeats by depth and mean validation errors."""
    shared, names = shared_part(world, crystals, rng), [f"c{number}" for number in range(crystals)]
    repeats, validation = {}, {}
    hard = shared_part(world, crystals, rng).mean()  # validation crystals are others, the same for all variants
    for depth, mean in means.items():
        sample = errors(world, mean, seeds, shared, rng)
        repeats[depth] = Repeats({0: pd.DataFrame(sample, columns=names)}, 1 / 3)
        noise = world.seed * rng.standard_normal(seeds).mean() + world.own * rng.standard_normal() / crystals**0.5
        validation[depth] = mean + hard + noise
    return repeats, validation


def saturations(world: World, means: dict[int, float], seeds: int, crystals: int, sweeps: int) -> dict[int, float]:
    """Share of sweeps that name each depth as the saturation depth."""
    from srcgcnn.analysis.saturation import saturation_depth

    rng, found = np.random.default_rng(7), []
    for _ in range(sweeps):
        repeats, validation = study_of(world, means, seeds, crystals, rng)
        best = min(validation, key=lambda depth: validation[depth])
        differences = {depth: repeats[depth].minus(repeats[best]) for depth in means if depth < best}
        found.append(saturation_depth({depth: interval_of(each) for depth, each in differences.items()}, best))
    return {depth: found.count(depth) / sweeps for depth in means}


def false_positives(world: World, variants: int, seeds: int, crystals: int, sweeps: int) -> tuple[float, float]:
    """Share of sweeps of equal variants in which any differs from the first: uncorrected, and after Holm."""
    from srcgcnn.analysis.comparison import corrected, p_of

    rng = np.random.default_rng(11)
    plain, holm = 0, 0
    for _ in range(sweeps):
        repeats, _ = study_of(world, dict.fromkeys(range(variants), world.mean), seeds, crystals, rng)
        p_values = [p_of(interval_of(repeats[other].minus(repeats[0]))) for other in range(1, variants)]
        plain += min(p_values) < 0.05
        holm += min(corrected(p_values)) < 0.05
    return plain / sweeps, holm / sweeps


def public_table(world: World, seeds: int, crystals: int, sweeps: int) -> dict[str, float]:
    """Use the statistics as others do, by `ErrorTable` (docs/statistics.md): two variants, the second at the margin.

    Returns the share of intervals and differences that hold the truth, of differences that are called significant
    although there is none, and of non-inferiority that is claimed of a variant which is worse by just the margin.
    """
    world = replace(world, mean=1.0)  # the table takes no negative errors; no share below depends on the mean
    rng, margin = np.random.default_rng([13, seeds]), 0.01
    hits: dict[str, list[bool]] = {}
    for _ in range(sweeps):
        shared = shared_part(world, crystals, rng)
        sample = {
            name: errors(world, world.mean + more, seeds, shared, rng)
            for name, more in (("first", 0.0), ("equal", 0.0), ("worse", margin))
        }
        table = ErrorTable(_rows_of(sample))
        interval, equal = table.interval("first"), table.compare("equal", "first")
        claim = table.non_inferior("worse", "first", margin)
        for name, hit in (
            ("interval holds the error", interval.low <= world.mean <= interval.high),
            ("interval holds the difference", equal.difference.low <= 0 <= equal.difference.high),
            ("equal variants called different", equal.p_value < 0.05),
            ("claimed within the margin at the margin", claim.holds),
        ):
            hits.setdefault(name, []).append(bool(hit))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def _rows_of(sample: dict[str, np.ndarray]) -> pd.DataFrame:
    parts = []
    for name, values in sample.items():
        seeds, items = np.indices(values.shape)
        parts.append(
            pd.DataFrame({"variant": name, "seed": seeds.ravel(), "item": items.ravel(), "error": values.ravel()})
        )
    return pd.concat(parts, ignore_index=True)


def power_reached(world: World, difference: float, crystals: int, sweeps: int) -> tuple[int, float]:
    """Ask a table of many seeds how many a difference needs; return that, and the share of sweeps that then find it.

    Every sweep has other seeds and other crystals, as `compare` assumes.
    """
    world, rng = replace(world, mean=1.0), np.random.default_rng(17)

    def table(seeds: int) -> ErrorTable:
        shared = shared_part(world, crystals, rng)
        means = {"one": world.mean, "other": world.mean + difference}
        return ErrorTable(_rows_of({name: errors(world, mean, seeds, shared, rng) for name, mean in means.items()}))

    seeds = table(PILOT_SEEDS).seeds_for(difference)
    found = [table(seeds).compare("other", "one").p_value < 0.05 for _ in range(sweeps)]
    return seeds, float(np.mean(found))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw coverage against the number of seeds."""
    from srcgcnn.analysis.style import colour_of, journal_style, new_figure

    with journal_style():
        figure = new_figure(7.2, 2.7)
        for place, what in enumerate(("error", "difference")):
            axes = figure.add_subplot(1, 2, place + 1)
            columns = [name for name in table.columns if name.startswith(what)]
            for name, (colour, marker) in colour_of(columns).items():
                axes.plot(table.index, table[name], color=colour, marker=marker, label=name.split(": ")[1])
            axes.axhline(0.95, color="black", lw=0.7, ls="--")
            axes.set(xlabel="seeds", ylabel="share of intervals that hold the truth", title=what, ylim=(0, 1.03))
            axes.set_xticks(list(table.index))
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=160)


def main() -> None:
    """Run all, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--crystals", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--out", type=Path, help="folder for coverage.png")
    parser.add_argument("--tables-only", action="store_true", help="only what docs/statistics.md shows")
    options = parser.parse_args()
    world = World()
    for seeds in options.seeds:
        shares = public_table(world, seeds, options.crystals, options.sweeps)
        print(f"ErrorTable, {seeds} seeds: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    for gap in (0.016, 0.024):  # eV/atom
        seeds, share = power_reached(world, gap, options.crystals, options.sweeps)
        print(f"a difference of {gap} is estimated to need {seeds} seeds for 80 %; detected with them in {share:.3f}")
    if options.tables_only:
        return
    table = pd.DataFrame({n: coverage(world, n, options.crystals, options.sweeps) for n in options.seeds}).T
    print(f"{world}, {options.crystals} test crystals, {options.sweeps} sweeps\n")
    print("| 95 % interval of | " + " | ".join(f"{n} seeds" for n in options.seeds) + " |")
    print("| --- |" + " ---: |" * len(options.seeds))
    for name in table.columns:
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in table[name]) + " |")
    if options.out:
        draw(table, options.out / "coverage.png")
    for splits in (3, 5, 10):
        shares = coverage_over_splits(splits, 2, options.sweeps)
        print(f"{splits} splits of 60/20/20: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    plain, holm = false_positives(world, 6, 3, options.crystals, options.sweeps)
    print(f"\nfive comparisons of equal variants, 3 seeds: any p < 0.05 in {plain:.3f}, after Holm {holm:.3f}")
    for gap in (0.01, 0.02, 0.04):  # eV/atom
        means = {1: world.mean + 2 * gap, 2: world.mean + gap, 3: world.mean, 5: world.mean, 8: world.mean}
        for seeds in (3, 10):
            shares = saturations(world, means, seeds, options.crystals, options.sweeps // 4)
            text = ", ".join(f"T = {depth}: {share:.3f}" for depth, share in shares.items())
            print(f"saturation at T = 3, T = 2 worse by {gap}, {seeds} seeds: {text}")


if __name__ == "__main__":
    main()
