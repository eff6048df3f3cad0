"""The command line of a recipe: a step a module, its options made from a dataclass."""

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from headstart.recipes.options import add_flags, from_flags
from headstart.stages.errors import SetupError

__all__ = ["Step", "end", "run_step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step, by names: only the chosen one's module is imported, as torch takes its time."""

    said: str
    module: str
    """Of this package."""
    options: str
    run: str


def run_step(name: str, about: str | None, steps: Mapping[str, Step], argv: Sequence[str]) -> int:
    """Run one step; what it found goes to standard output as JSON.

    Args:
        name: Of the recipe.

    Raises:
        SetupError: Something is not fit; the message names the fix.
    """
    parser = argparse.ArgumentParser(prog=f"headstart recipe {name}", description=about)
    choices = parser.add_subparsers(required=True, dest="step", metavar="STEP")
    named = next((each for each in argv if not each.startswith("-")), None)
    for label, step in steps.items():
        flags = choices.add_parser(label, help=step.said, description=step.said)
        if label == named:
            module = import_module(f"headstart.recipes.{step.module}")
            add_flags(flags, getattr(module, step.options))
    args = parser.parse_args(argv)
    chosen = steps[args.step]
    module = import_module(f"headstart.recipes.{chosen.module}")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    options = from_flags(getattr(module, chosen.options), args)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # bars, and what the Trainer prints
            found = getattr(module, chosen.run)(options)
    except OSError as error:
        if error.filename is None:
            raise
        raise SetupError(f"{error.filename}: {error.strerror}") from error
    print(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    return 0


def end(name: str, about: str | None, steps: Mapping[str, Step]) -> None:
    """Run one step as a program of its own, and end it."""
    try:
        sys.exit(run_step(name, about, steps, sys.argv[1:]))
    except SetupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(2)
