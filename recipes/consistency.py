"""`headstart recipe consistency`: weights that decode several tokens a step.

Runs as `python -m headstart.recipes.consistency` too, where torch and transformers are and the rest
of Headstart's packages are not.
"""

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from headstart.recipes.options import add_flags, from_flags
from headstart.stages.errors import SetupError

__all__ = ["main"]


def _collect() -> tuple[type, Callable[[Any], Any]]:
    from headstart.recipes.collecting import CollectOptions, collect

    return CollectOptions, collect


def _train() -> tuple[type, Callable[[Any], Any]]:
    from headstart.recipes.running import train
    from headstart.recipes.training import TrainOptions

    return TrainOptions, train


def _evaluate() -> tuple[type, Callable[[Any], Any]]:
    from headstart.recipes.evaluating import EvaluateOptions, evaluate

    return EvaluateOptions, evaluate


def _export() -> tuple[type, Callable[[Any], Any]]:
    from headstart.recipes.exporting import ExportOptions, export

    return ExportOptions, export


def _sql() -> tuple[type, Callable[[Any], Any]]:
    from headstart.recipes.sql_tasks import SqlOptions, generate

    return SqlOptions, generate


STEPS = {
    "sql": (_sql, "make questions about made-up databases, with answers that were run"),
    "collect": (_collect, "the model's own answers, and their Jacobi trajectories"),
    "train": (_train, "teach the model to jump along them"),
    "evaluate": (_evaluate, "tokens a step and a second, task metric, perplexity, side by side"),
    "export": (_export, "the result as a small adapter with a card that the server reads"),
}


def main(argv: Sequence[str]) -> int:
    """Run one step; what it found goes to standard output as JSON.

    Raises:
        SetupError: Something is not fit; the message names the fix.
    """
    parser = argparse.ArgumentParser(prog="headstart recipe consistency", description=__doc__)
    steps = parser.add_subparsers(required=True, dest="step", metavar="STEP")
    # Only the chosen step's module is imported: torch takes its time.
    named = next((each for each in argv if not each.startswith("-")), None)
    chosen: tuple[type, Callable[[Any], Any]] | None = None
    for name, (load, said) in STEPS.items():
        step = steps.add_parser(name, help=said, description=said)
        if name == named:
            chosen = load()
            add_flags(step, chosen[0])
    args = parser.parse_args(argv)
    assert chosen is not None
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):  # bars, and what the Trainer prints
        found = chosen[1](from_flags(chosen[0], args))
    print(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(2)
