"""A sweep on a Ray cluster that runs already. We join it like any job and leave it running."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.driver.resources import GroupResources
from srcgcnn.files import write_text
from srcgcnn.launch.head_watch import answers
from srcgcnn.launch.local import LaunchError, terminating_as_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from srcgcnn.launch.site import RaySite
    from srcgcnn.run.paths import RunPaths

LOOK_TIMEOUT_S = 300.0  # a runtime environment is made on every node first
SAME = ("torch", "numpy", "safetensors")  # Ray itself compares Python and Ray


@contextmanager
def running_cluster(paths: RunPaths, store: Path, site: RaySite, console: Console) -> Iterator[GroupResources]:
    """Join the cluster for as long as groups train; yields what a group gets.

    Raises:
        LaunchError: the cluster does not answer, or a node cannot do the work.
    """
    import ray

    if site.address != "auto" and not answers(site.address):  # Ray itself tries for minutes
        raise LaunchError(f"no Ray cluster answers at address={site.address!r}: nothing listens there")
    try:
        ray.init(address=site.address, runtime_env=site.runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LaunchError(f"no Ray cluster answers at address={site.address!r}: {reason}") from None
    try:
        nodes = check_nodes(paths, store)
        console.print(f"Ray cluster at {site.address}: {len(nodes)} nodes ({', '.join(nodes)})", soft_wrap=True)
        with terminating_as_ctrl_c():
            yield GroupResources(
                cpus=site.cpus_per_group,
                gpus=site.gpus_per_group,
                max_retries=site.max_retries,
                checkpoint_interval_s=site.checkpoint_interval_s,
                nodes_come_and_go=True,
            )
    finally:
        ray.shutdown()  # leaves the cluster as it is


def check_nodes(paths: RunPaths, store_folder: Path) -> list[str]:
    """Ask every node whether it sees the sweep's folder and the store, and has our packages; returns their names.

    Raises:
        LaunchError: a node does not, or gives no answer; it is named, with what to do.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark, word = paths.out / f".seen-{secrets.token_hex(4)}", secrets.token_hex(8)
    write_text(mark, word)
    look = ray.remote(num_cpus=0)(_look)
    try:
        references = {
            node["NodeManagerHostname"] + " " + node["NodeID"][:6]: look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(mark.resolve()), str(store_folder.resolve()), SAME)
            for node in ray.nodes()
            if node["Alive"]
        }
        answers = {name: _answer(name, reference) for name, reference in references.items()}
    finally:
        mark.unlink(missing_ok=True)
    here = {name: version(name) for name in SAME} | {"python": sys.version.split()[0]}
    for name, (seen, store, versions) in answers.items():
        if seen != word or not store:
            unseen = paths.out if seen != word else store_folder
            raise LaunchError(f"node {name} does not see {unseen}: use --out and --stores that all nodes see")
        other = [f"{key} {versions[key]} (here {value})" for key, value in here.items() if versions[key] != value]
        if other:
            raise LaunchError(f"node {name} has other packages: {', '.join(other)}; see image and pip in the site file")
    return list(answers)


def _answer(name: str, reference: Any) -> tuple[str, bool, dict[str, str]]:
    import ray

    try:
        answer: tuple[str, bool, dict[str, str]] = ray.get(reference, timeout=LOOK_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - Ray wraps whatever goes wrong on a node in classes made on the way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise LaunchError(f"node {name} cannot run this version of srcgcnn: {reason}") from None
    return answer


def _look(mark: str, store: str, packages: tuple[str, ...]) -> tuple[str, bool, dict[str, str]]:
    """Run on a node: read the mark, look for the store, and name versions."""
    import srcgcnn.driver.trainable  # noqa: F401 - what groups need

    path = Path(mark)
    seen = path.read_text(encoding="utf-8") if path.exists() else f"nothing on {socket.gethostname()}"
    versions = {name: version(name) for name in packages} | {"python": sys.version.split()[0]}
    return seen, (Path(store) / "manifest.json").exists(), versions
