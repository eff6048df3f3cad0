"""`headstart recipe drafter`: small models and tables that draft answers to one language.

Runs as `python -m headstart.recipes.drafter` too, where torch and transformers are and the rest of
Headstart's packages are not.
"""

from collections.abc import Sequence

from headstart.recipes.steps import Step, end, run_step

__all__ = ["main"]

STEPS = {
    "corpus": Step(
        "clean text in one language, its licence recorded",
        *("corpus", "CorpusOptions", "build_corpus"),
    ),
    "pretrain": Step(
        "a small model with the target's tokenizer learns that text",
        *("drafter_training", "PretrainOptions", "pretrain"),
    ),
    "distil": Step(
        "the target answers prompts in the language, at several temperatures",
        *("distilling", "DistilOptions", "distil"),
    ),
    "finetune": Step(
        "the small model learns those answers",
        *("drafter_training", "FinetuneOptions", "finetune"),
    ),
    "table": Step(
        "the lightest drafter: n-grams of those answers and of the text",
        *("table_building", "TableOptions", "make_table"),
    ),
    "trim": Step(
        "cut a drafter to the tokens that the target uses",
        *("trimming", "TrimOptions", "trim"),
    ),
    "evaluate": Step(
        "tokens a step and a second, side by side",
        *("drafter_evaluating", "EvaluateOptions", "evaluate"),
    ),
    "export": Step(
        "a small folder with a card that says what it drafts for",
        *("drafter_exporting", "ExportOptions", "export"),
    ),
}


def main(argv: Sequence[str]) -> int:
    """Run one step; what it found goes to standard output as JSON.

    Raises:
        SetupError: Something is not fit; the message names the fix.
    """
    return run_step("drafter", __doc__, STEPS, argv)


if __name__ == "__main__":
    end("drafter", __doc__, STEPS)
