"""What a run leaves to who started it: which base model is meant, where there are several; and what *keep* is worth."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.config import Config
    from lpm_kernel.workspace.places import Workspace


def deciding(workspace: "Workspace", run: Callable[[], None]) -> None:
    """Run; where it stops for a base model to be chosen, ask, write the choice down, and run once more."""
    from lpm_kernel.runner.settings import choose_base_model
    from lpm_kernel.runner.state import UndecidedError

    try:
        return run()
    except UndecidedError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        names = error.names
    name = ""
    while name not in names:
        name = typer.prompt(f"Which base model ({', '.join(names)})", err=True)
    choose_base_model(workspace, name)
    return run()


def requires_promotion(config: "Config") -> bool:
    """Whether the settings of `evaluate` say so (`--require-promote`)."""
    from lpm_kernel.proof.gate import GateConfig

    return isinstance(config, GateConfig) and config.require_promote


def exit_unless_promoted(config: "Config", evaluation_path: "Path") -> None:
    """Exit with 1 where a promotion is required and the evaluation keeps the old model."""
    from lpm_kernel.files import read_record
    from lpm_kernel.proof.evaluation import Evaluation

    if requires_promotion(config) and read_record(evaluation_path, Evaluation).decision == "keep":
        raise typer.Exit(code=1)
