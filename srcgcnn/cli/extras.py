"""The optional parts of an installation: which packages each brings, and what to say if one is missing."""

from __future__ import annotations

from importlib.util import find_spec

# Those of pyproject.toml that nothing in the core brings anyway, by the names under which Python imports them
EXTRAS = {
    "report": ("statsmodels",),
    "sweep": ("mlflow", "optuna", "ray"),
    "slurm": ("submitit",),
    "mp": ("mp_api",),
}


class MissingExtraError(RuntimeError):
    """A command needs a package that is not installed; the message says what installs it."""


def require(*extras: str) -> None:
    """Check that the packages of some extras are there, before anything is done.

    Raises:
        MissingExtraError: one is not.
    """
    for extra in extras:
        for package in EXTRAS[extra]:
            if find_spec(package) is None:
                raise MissingExtraError(_advice(package, extra))


def installed(extra: str) -> bool:
    """Whether the packages of an extra are there."""
    return all(find_spec(package) for package in EXTRAS[extra])


def advice_on(error: ModuleNotFoundError) -> str | None:
    """Return what to install for an import that failed; None if no extra brings that package."""
    package = (error.name or "").partition(".")[0]
    return next((_advice(package, extra) for extra, packages in EXTRAS.items() if package in packages), None)


def _advice(package: str, extra: str) -> str:
    return f"this needs {package}, which is not installed: pip install 'srcgcnn[{extra}]' ('.[{extra}]' in a checkout)"
