"""Prompts for load: varied, the same for the same seed, never the same twice in a run."""

import itertools
import json
import random
from pathlib import Path

__all__ = ["FILE", "ROWS", "is_public", "prompts", "source_of"]

FILE = "gsm8k_train.jsonl"
ROWS = "one JSON object a line with `question` (GSM8K train, github.com/openai/grade-school-math)"

_SUBJECTS = (
    "a lighthouse on a small island",
    "the night train between two cities",
    "a bakery that opens at four in the morning",
    "an old bridge over a slow river",
    "a weather station in the mountains",
    "the library of a village school",
    "a repair shop for bicycles and clocks",
    "a garden behind a hospital",
    "a ferry that runs only in summer",
    "the kitchen of a large hotel",
    "a workshop where violins are made",
    "a market hall on a rainy day",
)
_TASKS = (
    "Describe {} to somebody who has never left home.",
    "What would change about {} if electricity were free? Give three points.",
    "Write down, step by step, how a new worker learns the daily routine of {}.",
    "Tell a short story that begins and ends at {}.",
    "List the sounds, smells and colours of {} at dawn.",
    "Explain why {} needs careful planning and what goes wrong without it.",
    "Compare {} today with the same place a hundred years ago.",
    "Write a letter of thanks to the people who look after {}.",
)
_TURNS = (
    "Keep it plain.",
    "Use examples from everyday life.",
    "Mention what it costs and who pays.",
    "Think of the winter too.",
    "End with a question to the reader.",
    "Say first what matters most.",
    "Avoid numbers.",
    "Include one surprising fact and where it comes from.",
    "Speak as somebody who has worked there for thirty years and is about to retire.",
    "Take the view of a child.",
    "Name the tools that are needed and what each is good for.",
    "Do not use the word `important`; show it instead.",
    "Write it as a dialogue between two friends.",
    "Explain every foreign word.",
    "Put the weather into each paragraph.",
    "Begin with a mistake that somebody made there last week.",
    "Let one sentence be a proverb.",
    "Say what a visitor always overlooks.",
    "Compare it with a ship at sea.",
    "Write for a reader who is in a hurry.",
)


def prompts(data_dir: Path | None, seed: int) -> list[str]:
    """Return prompts in random order: questions of GSM8K train, or almost two thousand of our own.

    Args:
        data_dir: Where `FILE` is; without the file our own are used.
    """
    if is_public(data_dir):
        assert data_dir is not None
        with (data_dir / FILE).open(encoding="utf-8") as lines:
            found = list(dict.fromkeys(str(json.loads(line)["question"]) for line in lines))
    else:
        parts = itertools.product(_TASKS, _SUBJECTS, _TURNS)
        found = [f"{task.format(subject)} {turn}" for task, subject, turn in parts]
    random.Random(seed).shuffle(found)  # noqa: S311 - an order, not a secret
    return found


def is_public(data_dir: Path | None) -> bool:
    """Whether the public questions are there."""
    return data_dir is not None and (data_dir / FILE).is_file()


def source_of(data_dir: Path | None) -> str:
    """Say in a few words where `prompts` takes them from."""
    return "GSM8K train questions" if is_public(data_dir) else "built-in plain prompts"
