"""`headstart recipe consistency`: weights that decode several tokens a step.

Runs as `python -m headstart.recipes.consistency` too, where torch and transformers are and the rest
of Headstart's packages are not.
"""

from collections.abc import Sequence

from headstart.recipes.steps import Step, end, run_step

__all__ = ["main"]

STEPS = {
    "sql": Step(
        "make questions about made-up databases, with answers that were run",
        *("sql_tasks", "SqlOptions", "generate"),
    ),
    "collect": Step(
        "the model's own answers, and their Jacobi trajectories",
        *("collecting", "CollectOptions", "collect"),
    ),
    "train": Step(
        "teach the model to jump along them", "consistency_training", "TrainOptions", "train"
    ),
    "evaluate": Step(
        "tokens a step and a second, task metric, perplexity, side by side",
        *("evaluating", "EvaluateOptions", "evaluate"),
    ),
    "export": Step(
        "the result as a small adapter with a card that the server reads",
        *("exporting", "ExportOptions", "export"),
    ),
}


def main(argv: Sequence[str]) -> int:
    """Run one step; what it found goes to standard output as JSON.

    Raises:
        SetupError: Something is not fit; the message names the fix.
    """
    return run_step("consistency", __doc__, STEPS, argv)


if __name__ == "__main__":
    end("consistency", __doc__, STEPS)
