"""`python -m tests.chaos --seed 0 --faults 100`: random faults, round after round, and a verdict on each.

A round is one sweep with some of the faults. The rounds of a seed are always the same; what they meet is not. A round
that fails is saved as a schedule, can be replayed (`--replay FILE`), and is shrunk (`--shrink`) to the fewest faults.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from srcgcnn.run.paths import RunPaths
from tests.chaos import local
from tests.chaos.checker import read_numbers
from tests.chaos.play import Player, Verdict, save
from tests.chaos.schedule import Schedule, generate, shrink

ATTEMPTS = 2  # a candidate for shrinking passes when it passes so often: what a kill meets differs from run to run


def main() -> int:
    """Play the rounds that were asked for; returns 1 where a rule was broken."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    calm = calm_numbers(options.work / "calm")
    failed, done = 0, 0
    for schedule in _schedules(options):
        if done >= options.faults:
            break
        verdict = play(schedule, options.work / f"{schedule.world}-{schedule.seed}-{schedule.round}", calm)
        done += len(verdict.injected)
        _report(schedule, verdict)
        if verdict.violations:
            failed += 1
            if options.shrink:
                _shrink(schedule, verdict, options.work, calm)
    print(f"{done} faults, {failed} rounds failed", flush=True)
    return int(failed > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--world", choices=["local", "lab"], default="local", help="where the sweeps run (local)")
    parser.add_argument("--seed", type=int, default=0, help="which schedules (0)")
    parser.add_argument("--faults", type=int, default=100, help="faults in all (100)")
    parser.add_argument("--per-round", type=int, default=20, help="faults of one sweep (20)")
    parser.add_argument("--first-round", type=int, default=0, help="go on from this round (0)")
    parser.add_argument("--replay", type=Path, help="play this schedule instead")
    parser.add_argument("--shrink", action="store_true", help="shrink what fails to the fewest faults")
    parser.add_argument("--work", type=Path, default=Path("runs/chaos"), help="folder of the sweeps (runs/chaos)")
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def _schedules(options: argparse.Namespace):
    if options.replay:
        yield Schedule.from_json(options.replay.read_text())
        return
    number = options.first_round
    while True:  # until enough faults were done: some find their target gone, or the sweep over
        yield generate(options.world, _world(options.world).menu(), options.seed, number, options.per_round)
        number += 1


def _world(name: str):
    if name == "local":
        return local
    from tests.chaos import lab

    return lab


def play(schedule: Schedule, folder: Path, calm, say=print) -> Verdict:
    """Play one schedule in a folder of its own; the folder stays where a rule was broken."""
    shutil.rmtree(folder, ignore_errors=True)
    kind = _world(schedule.world)
    world = kind.LocalWorld(folder, schedule) if schedule.world == "local" else kind.LabWorld(folder, schedule)
    shutil.copytree(calm_folder(folder.parent) / "stores", folder / "stores")
    say(
        f"==> {schedule.world}, seed {schedule.seed}, round {schedule.round}: {len(schedule.faults)} faults", flush=True
    )
    verdict = Player(world, lambda: calm, lambda line: say(line, flush=True)).play(schedule)
    save(folder, schedule, verdict)
    if not verdict.violations:
        shutil.rmtree(folder)
    return verdict


def calm_folder(work: Path) -> Path:
    """Return the folder of the calm run."""
    return work / "calm"


def calm_numbers(folder: Path):
    """Return the numbers of the same sweep without faults, run once."""
    paths = RunPaths(folder / "runs" / "depth")
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "site.toml").write_text(local.SITE)
        command = [
            sys.executable,
            str(local.ROOT / "sweeps" / "depth_sweep.py"),
            "--cluster",
            "site.toml",
            *local.FLAGS,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        (folder / "done").touch()
    return read_numbers(paths.results)


def _report(schedule: Schedule, verdict: Verdict) -> None:
    outcome = "FAILED" if verdict.violations else "passed"
    counts = (
        f"{len(verdict.injected)} faults done, {len(verdict.missed)} without a target, {len(verdict.late)} too late"
    )
    rules = ", ".join(f"{rule} x{count}" for rule, count in Counter(v.rule for v in verdict.violations).items())
    print(f"<== round {schedule.round} {outcome}: {counts}{'; ' if rules else ''}{rules}", flush=True)


def _shrink(schedule: Schedule, verdict: Verdict, work: Path, calm) -> None:
    """Find the fewest faults that break the same rule, and print them as a case."""
    rules, tried = {violation.rule for violation in verdict.violations}, 0

    def fails(faults) -> bool:
        nonlocal tried
        for _ in range(ATTEMPTS):
            tried += 1
            found = play(schedule.only(faults), work / f"shrink-{tried}", calm)
            if rules & {violation.rule for violation in found.violations}:
                return True
        return False

    least = schedule.only(shrink(verdict.injected, fails))
    print(f"shrunk in {tried} sweeps to {len(least.faults)} faults; as tests/chaos/cases/NAME.json it is a test:")
    print(least.to_json(), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
