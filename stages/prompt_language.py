"""Which language a prompt's input is in, so that a drafter made for it can be chosen.

Most prompts say what to do with a text, in English, and then have the text: the text decides, be it
ever so short. A wrong guess costs time and no more, so languages that somebody drafts for are
believed sooner than others.
"""

import re
from collections import defaultdict
from collections.abc import Collection

from headstart.stages.language import SPACED_ENDS, WIDE_ENDS, both_ends, code_of, excerpt, likely

__all__ = ["prompt_language"]

_INSTRUCTIONS = "en"
"""The language that they are mostly in."""
_FAVOUR_DRAFTED, _FAVOUR_ENGLISH = 10.0, 15.0
"""How many times likelier than others these are beforehand."""
_ENGLISH_WEIGHT = 0.1
"""Of a byte of English, where there is something else: it may well be the instruction."""
_CONFIDENCE = 0.5
"""Of languages that nobody drafts for, and of what is shorter than a few words."""
_FEW_WORDS = 3
_LETTERS = 0.6
"""Least share of a sentence's characters that are letters."""

_QUOTES = (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}"
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
    "\N{LEFT CORNER BRACKET}\N{RIGHT CORNER BRACKET}"
    '\N{LEFT WHITE CORNER BRACKET}\N{RIGHT WHITE CORNER BRACKET}"'
)
_ENDS = SPACED_ENDS + WIDE_ENDS
_PIECE = re.compile(rf"[^{_ENDS}:\N{{FULLWIDTH COLON}}{_QUOTES}\n]+[{_ENDS}]*")
_KANA = re.compile("[\u3041-\u30fa\u30fc-\u30ff]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_WIDE = ("ja", "zh")
_WIDE_LETTERS = 4.5
"""Others that a letter of these makes up for: it says as much as a syllable or a word."""
_MARKS = re.compile(r"[{}\[\]();=<>_\\|&$#@`]")
_MARKS_OF_CODE = 0.08
"""Share of a line's characters."""
_CODE_SHARE = 0.25


def prompt_language(text: str, drafted: Collection[str]) -> str | None:
    """Return the ISO 639 code of the language of a prompt's input; None if it does not tell.

    The names of languages in an instruction are no clue: the input's own words are. What is mostly
    code is in none.

    Args:
        drafted: Languages that there are drafters for.
    """
    favoured = {code_of(tag): _FAVOUR_DRAFTED for tag in drafted}
    favoured[_INSTRUCTIONS] = _FAVOUR_ENGLISH
    weights: defaultdict[str, float] = defaultdict(float)
    num_code = num_short = 0
    pieces: list[str] = []
    for line in excerpt(text).split("\n"):
        if _is_code(line):
            num_code += len(line)
        else:
            stripped = map(str.strip, _PIECE.findall(line))
            pieces += [piece for piece in stripped if any(map(str.isalpha, piece))]
    for piece in both_ends(pieces):
        language, confidence = _piece_language(piece, favoured)
        weights[language] += confidence * len(piece.encode())
        is_short = len(piece.split()) <= _FEW_WORDS and language not in _WIDE
        num_short += len(piece) if is_short else 0
    weights.pop("", None)
    weight = sum(weights.values())
    # Single words between lines of code are code, too.
    if not weight or num_code >= max(weight - num_short, _CODE_SHARE * weight, 1):
        return None
    if "ja" in weights:  # which is written with the letters of Chinese, too
        weights["ja"] += weights.pop("zh", 0)
    english = weights.pop(_INSTRUCTIONS, 0)
    language, weight = max(weights.items(), key=lambda item: item[1], default=("", 0))
    least = english * (_ENGLISH_WEIGHT if language in favoured else 1)
    return language if weight > least else _INSTRUCTIONS


def _piece_language(piece: str, favoured: dict[str, float]) -> tuple[str, float]:
    num_letters = sum(map(str.isalpha, piece))
    kana = len(_KANA.findall(piece))
    wide = kana + len(_HAN.findall(piece))
    if _WIDE_LETTERS * wide > num_letters - wide:
        return ("ja" if kana or _is_japanese(piece) else "zh"), 1.0
    if num_letters < _LETTERS * (len(piece) - piece.count(" ")):
        return "", 1.0
    language, confidence = likely(piece, favoured)
    is_believed = language in favoured and len(piece.split()) >= _FEW_WORDS
    return (language if is_believed or confidence >= _CONFIDENCE else ""), confidence


def _is_japanese(text: str) -> bool:
    """Whether characters are Japan's own forms rather than those of China."""
    by_japan, by_china = (_num_written(text, code) for code in ("euc_jp", "gb2312"))
    return by_japan > max(by_china, _num_written(text, "big5"))


def _num_written(text: str, code: str) -> int:
    return len(text.encode(code, errors="ignore").decode(code))


def _is_code(line: str) -> bool:
    num_marks = len(_MARKS.findall(line))
    num_chars = len(line) - sum(map(str.isspace, line))
    is_dense = num_marks >= 2 and num_marks >= _MARKS_OF_CODE * num_chars
    return is_dense or (num_marks >= 1 and line[:1] in " \t")
