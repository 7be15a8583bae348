"""The command `srcgcnn completion`: what a shell needs to complete commands and flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command

if TYPE_CHECKING:
    import argparse

SHELLS = ("bash", "zsh", "tcsh")


def add_completion_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = add_command(
        commands,
        "completion",
        "print a completion script for a shell",
        _completion,
        description="Print a script that completes commands and flags. Source it, or put it where the shell looks.",
        examples="""
        source <(srcgcnn completion bash)
        srcgcnn completion zsh > ~/.zfunc/_srcgcnn
        """,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" | ".join(SHELLS))


def _completion(options: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(options.parser, options.shell))
    return 0
