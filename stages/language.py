"""Which language a text is in, for whoever drafts by it."""

import re
from collections import Counter
from collections.abc import Container, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

__all__ = [
    "MOST_CHARS",
    "MOST_SENTENCES",
    "SPACED_ENDS",
    "WIDE_ENDS",
    "closest",
    "excerpt",
    "is_loaded",
    "language_of",
    "likely",
    "load",
]

MOST_CHARS = 4_000
"""Of a text that are looked at: half at its beginning, half at its end."""
MOST_SENTENCES = 32
"""The same: each costs a fraction of a millisecond."""
_CONFIDENCE = 0.5
"""A sentence that is less likely in its likeliest language than in all others together is in none:
it is too short, or a name, or a number."""
_VARIETIES = {"wuu": "zh", "yue": "zh"}
"""Written alike, and drafted alike."""
SPACED_ENDS = ".!?…"
"""Marks that end sentences, where white space follows."""
WIDE_ENDS = "\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
"""The same, whatever follows."""
_ENDS = SPACED_ENDS + WIDE_ENDS
_SENTENCE = re.compile(rf"[^{_ENDS}\n]+[{_ENDS}]*")
_NO_LANGUAGE = "zxx"


def closest(language: str, known: Container[str]) -> str | None:
    """Return the known language tag for a language: its own, or that which it is a variety of."""
    for tag in (language, language.partition("-")[0].lower()):
        if tag in known:
            return tag
    return None


def load() -> None:
    """Load the model of languages, which takes a second: nobody's text shall wait for that."""
    _identifier()


def is_loaded() -> bool:
    """Whether `language_of` answers at once."""
    return _identifier.cache_info().currsize > 0


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of the language that most of a text is in.

    Texts mix languages: each sentence counts for its own, by its length in bytes, as a character of
    Chinese says more than one of English. What is no language, such as code or numbers, counts for
    none.

    Returns:
        None where no language has half of the text, or it is too short to tell.
    """
    weights: Counter[str] = Counter()
    for sentence in _sentences(text):
        language, confidence = likely(sentence)
        weights[language if confidence >= _CONFIDENCE else ""] += len(sentence.encode())
    if not weights:
        return None
    language, weight = max(weights.items(), key=lambda item: item[1])
    return language if language and 2 * weight >= weights.total() else None


def likely(
    sentence: str, favoured: Mapping[str, float] = MappingProxyType({})
) -> tuple[str, float]:
    """Return a sentence's likeliest language and how likely it is; "" is none, such as code.

    Args:
        favoured: How many times likelier than others some languages are beforehand.
    """
    ranked = _identifier().rank(sentence)
    chances = dict(ranked)
    weighed = {ranked[0][0]: ranked[0][1]}
    weighed |= {each: by * chances.get(each, 0.0) for each, by in favoured.items()}
    best = max(weighed, key=weighed.__getitem__)
    total = 1.0 + sum((by - 1.0) * chances.get(each, 0.0) for each, by in favoured.items())
    counted = _VARIETIES.get(best, best)
    return ("" if counted == _NO_LANGUAGE else counted), weighed[best] / total


def excerpt(text: str) -> str:
    """Return what is looked at of a text."""
    half = MOST_CHARS // 2
    return text if len(text) <= MOST_CHARS else f"{text[:half]}\n{text[-half:]}"


def _sentences(text: str) -> list[str]:
    stripped = (each.strip() for each in _SENTENCE.findall(excerpt(text)))
    found = [each for each in stripped if any(map(str.isalpha, each))]
    if len(found) <= MOST_SENTENCES:
        return found
    return [*found[: MOST_SENTENCES // 2], *found[-MOST_SENTENCES // 2 :]]


@cache
def _identifier() -> Any:
    # Of the server's install, not of a client's.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
