"""Which language a text is in, for whoever drafts by it."""

import re
from collections import Counter
from collections.abc import Container
from functools import cache
from typing import Any

__all__ = ["MOST_CHARS", "SPACED_ENDS", "WIDE_ENDS", "closest", "is_loaded", "language_of", "load"]

MOST_CHARS = 4_000
"""Of a text that are looked at: half at its beginning, half at its end."""
_MOST_SENTENCES = 32
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
        language, confidence = _identifier().classify(sentence)
        known = confidence >= _CONFIDENCE and language != _NO_LANGUAGE
        counted = _VARIETIES.get(language, language) if known else ""
        weights[counted] += len(sentence.encode())
    if not weights:
        return None
    language, weight = max(weights.items(), key=lambda item: item[1])
    return language if language and 2 * weight >= weights.total() else None


def _sentences(text: str) -> list[str]:
    half = MOST_CHARS // 2
    excerpt = text if len(text) <= MOST_CHARS else f"{text[:half]}\n{text[-half:]}"
    stripped = (each.strip() for each in _SENTENCE.findall(excerpt))
    found = [each for each in stripped if any(map(str.isalpha, each))]
    if len(found) <= _MOST_SENTENCES:
        return found
    return [*found[: _MOST_SENTENCES // 2], *found[-_MOST_SENTENCES // 2 :]]


@cache
def _identifier() -> Any:
    # Of the server's install, not of a client's.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
