"""Whether the router tells a prompt's language: translations that it is asked for, English, code.

Each sentence comes with an instruction that names its language, without one, and behind and before
one that names none; whole, and cut to its first words.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly, over_blocks
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.other_languages import SENTENCES
from headstart.benchmarks.report import Part, Table, run_part
from headstart.configs.settings import Settings
from headstart.stages.language import load
from headstart.stages.prompt_language import prompt_language

__all__ = ["FORMS", "TRAINED", "Told", "checks", "run", "told"]

TRAINED = ("de", "fr", "ru", "ja", "zh")
_WIDE = ("ja", "zh")
NAMES = {
    "de": "German",
    "fr": "French",
    "ru": "Russian",
    "ja": "Japanese",
    "zh": "Chinese",
    "en": "English",
    "ko": "Korean",
    "ar": "Arabic",
    "da": "Danish",
    "sw": "Swahili",
}
FORMS = {
    "kept": "Translate {name} to {other}:{text}",
    "removed": "{text}",
    "before": "Please translate this:\n{text}",
    "behind": "{text}\n\nTranslate the text above.",
}
NUM_ENGLISH, NUM_CODE = 50, 100
MIN_WORDS, MIN_CHARS = 5, 10
CUT_WORDS, CUT_CHARS = 3, 6
LONG_SHARE, SHORT_SHARE = 0.98, 0.9
WANTED = {
    "translate_to_en.jsonl": "rows with `turns` and `lang` (Multilingual-SpecBench)",
    "gsm8k_test.jsonl": "rows with `question` (GSM8K)",
    "humaneval.jsonl": "rows with `prompt` (HumanEval)",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One sentence, and what its forms were told to be in."""

    language: str
    text: str
    is_short: bool
    found: dict[str, str | None]
    seconds: tuple[float, ...]

    def is_right(self, form: str) -> bool:
        return self.found[form] == self.language


def told(language: str, text: str, *, is_short: bool = False) -> Told:
    """Have the router look at a sentence in all forms."""
    found, seconds = {}, []
    other = "German" if language == "en" else "English"
    for form, pattern in FORMS.items():
        prompt = pattern.format(name=NAMES.get(language, "this"), other=other, text=text)
        began = time.perf_counter()
        found[form] = prompt_language(prompt, TRAINED)
        seconds.append(time.perf_counter() - began)
    return Told(language, text, is_short, found, tuple(seconds))


def run(_settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status."""
    load()
    return run_part("language", options, lambda: _measured(options))


def _measured(options: BenchOptions) -> Part:
    config = {"drafted": list(TRAINED), "forms": FORMS, "cut_words": CUT_WORDS}
    config |= {"cut_chars": CUT_CHARS, "english": NUM_ENGLISH, "code": NUM_CODE}
    folder = options.data_dir
    absent = [name for name in WANTED if folder is None or not (folder / name).is_file()]
    if absent or folder is None:
        kinds = "; ".join(f"{name}: {WANTED[name]}" for name in absent)
        why = f"--data or bench.data_dir lacks {kinds}"
        return Part(config, [], [not_measured(bar, why) for bar in _bars()])
    sentences = list(_sentences(folder))
    whole = [told(*each) for each in sentences if _is_long(*each)]
    short = [told(language, _cut(language, text), is_short=True) for language, text in sentences]
    code = [told("", row["prompt"]) for row in _rows(folder / "humaneval.jsonl", NUM_CODE)]
    others = [told(language, text) for language, some in SENTENCES.items() for text in some]
    tables = [_table(whole, "whole"), _table(short, "cut"), _table(others, "not drafted for")]
    return Part(config, tables, checks([*whole, *short], code, others))


def _sentences(folder: Path) -> Iterator[tuple[str, str]]:
    for row in _rows(folder / "translate_to_en.jsonl"):
        yield row["lang"], row["turns"][0].partition(":")[2]
    for row in _rows(folder / "gsm8k_test.jsonl", NUM_ENGLISH):
        yield "en", row["question"]


def _rows(path: Path, most: int | None = None) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        yield from islice(map(json.loads, lines), most)


def _is_long(language: str, text: str) -> bool:
    return len(text) >= MIN_CHARS if language in _WIDE else len(text.split()) >= MIN_WORDS


def _cut(language: str, text: str) -> str:
    return text[:CUT_CHARS] if language in _WIDE else " ".join(text.split()[:CUT_WORDS])


def _bars() -> list[Bar]:
    shares = [
        Bar(f"right_{length}_{form}", limit, "higher", "share")
        for length, limit in (("whole", LONG_SHARE), ("cut", SHORT_SHARE))
        for form in FORMS
    ]
    return [
        *shares,
        Bar("others_drafted", 0, "lower", "share"),
        Bar("code_drafted", 0, "lower", "share"),
        Bar("mean_time", 0.001, "lower", "s"),
    ]


def checks(sentences: Sequence[Told], code: Sequence[Told], others: Sequence[Told]) -> list[Check]:
    """Judge all bars.

    Args:
        sentences: Of the languages that are drafted for, and of English.
        code: Programs.
        others: Sentences of languages that nobody drafts for.
    """
    *shares, other_bar, code_bar, time_bar = _bars()
    found = []
    for bar in shares:
        _, length, form = bar.name.split("_")
        some = [each.is_right(form) for each in sentences if each.is_short == (length == "cut")]
        found.append(judge(bar, over_blocks(some, lambda drawn: float(np.mean(drawn)))))
    for bar, some_told in ((other_bar, others), (code_bar, code)):
        wrong = [said in TRAINED for each in some_told for said in each.found.values()]
        found.append(judge(bar, exactly(float(np.mean(wrong)))))
    seconds = [each.seconds for each in sentences]
    return [*found, judge(time_bar, over_blocks(seconds, lambda drawn: float(np.mean(drawn))))]


def _table(some: Sequence[Told], title: str) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for language in dict.fromkeys(each.language for each in some):
        own = [each for each in some if each.language == language]
        wrong = Counter(
            said or "none" for each in own for said in each.found.values() if said != language
        )
        shares = (float(np.mean([each.is_right(form) for each in own])) for form in FORMS)
        rows.append((language, len(own), *shares, ", ".join(f"{n} {w}" for w, n in wrong.items())))
    return Table(title, ("language", "sentences", *FORMS, "told instead"), tuple(rows))
