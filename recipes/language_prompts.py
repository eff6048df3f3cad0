"""Prompts made from a language's text: translations into English, and questions about it."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from headstart.stages.errors import SetupError
from headstart.stages.language import SPACED_ENDS, WIDE_ENDS

__all__ = ["LANGUAGES", "prompts_from"]

LANGUAGES = {
    "de": (
        "German",
        (
            "Was bedeutet dieser Satz? {}",
            "Erkläre mit eigenen Worten: {}",
            "Fasse kurz zusammen: {}",
            "Worum geht es in diesem Text? {}",
        ),
    ),
    "fr": (
        "French",
        (
            "Que signifie cette phrase ? {}",
            "Explique avec tes propres mots : {}",
            "Résume en quelques mots : {}",
            "De quoi parle ce texte ? {}",
        ),
    ),
    "ja": (
        "Japanese",
        (
            "この文はどういう意味ですか。{}",
            "わかりやすく説明してください。{}",
            "短く要約してください。{}",
            "この文章は何についてのものですか。{}",
        ),
    ),
    "ru": (
        "Russian",
        (
            "Что означает это предложение? {}",
            "Объясни своими словами: {}",
            "Кратко перескажи: {}",
            "О чём этот текст? {}",
        ),
    ),
    "zh": (
        "Chinese",
        (
            "这句话是什么意思？{}",
            "请用自己的话解释：{}",
            "请简要概括：{}",
            "这段文字讲的是什么？{}",
        ),
    ),
}
"""Of each language its English name and questions in it; of others, give prompts of your own."""

_SENTENCE = re.compile(
    rf"[^{SPACED_ENDS}{WIDE_ENDS}\n]+(?:[{SPACED_ENDS}]+(?=\s|$)|[{WIDE_ENDS}]+|$)"
)
_WIDTHS = (24, 400)
"""Of a sentence that is asked about, in bytes of UTF-8: a character of Chinese has three of them,
and says more."""


def prompts_from(
    documents: Sequence[str], language: str, num: int, seed: int
) -> list[dict[str, str]]:
    """Draw sentences and make a prompt of each, translations and questions in turn.

    Raises:
        SetupError: The language has no questions here, or the text too few sentences.
    """
    if language not in LANGUAGES:
        raise SetupError(
            f"there are no questions in {language} (only {', '.join(LANGUAGES)}): give --prompts, "
            "a file of prompts in that language"
        )
    name, questions = LANGUAGES[language]
    sentences = list(dict.fromkeys(each for text in documents for each in _sentences(text)))
    if not sentences:
        raise SetupError(f"the corpus has no sentence in {language} that is fit for a prompt")
    order = np.random.default_rng(seed).permutation(len(sentences))[:num]
    found = []
    for number, place in enumerate(order.tolist()):
        sentence = sentences[place]
        if number % 2 == 0:
            said, task = f"Translate {name} to English: {sentence}", "translate"
        else:
            said, task = questions[number // 2 % len(questions)].format(sentence), "question"
        found.append({"prompt": said, "task": task, "lang": language})
    return found


def _sentences(text: str) -> Iterator[str]:
    for match in _SENTENCE.finditer(text):
        sentence = match[0].strip()
        if sentence[:1].isalnum() and _WIDTHS[0] <= len(sentence.encode()) <= _WIDTHS[1]:
            yield sentence
