"""What `collect` and `evaluate` refuse before they cost anything."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from headstart.recipes.prompts import Prompt, is_right
from headstart.stages.errors import SetupError

__all__ = ["check_metric"]

_TAKES = {"gsm8k": "rows with an `answer` that has a number", "sql": "rows of the step `sql`"}
"""By metric."""


def check_metric(metric: str, prompts: Sequence[Prompt], path: Path) -> None:
    """Refuse prompts whose answers a metric could not judge.

    Args:
        metric: One of `METRICS`.
        path: The prompts' file.

    Raises:
        SetupError: A line does not say what is right, or what it says is not right by the metric.
    """
    for prompt in prompts if metric != "none" else ():
        if not _has_right_answer(metric, prompt):
            raise SetupError(
                f"{path}:{prompt.id + 1} is not fit for --metric {metric}, which takes "
                f"{_TAKES[metric]}: leave --metric out, or give other --prompts"
            )


def _has_right_answer(metric: str, prompt: Prompt) -> bool:
    """Whether what the file says is right passes: databases are opened as they will be later."""
    try:
        return prompt.answer is not None and is_right(metric, prompt, prompt.answer)
    except (SetupError, sqlite3.Error, TypeError, ValueError, LookupError, AttributeError):
        return False
