"""Files of text as paragraphs: plain, JSON lines, HTML and manual pages, each also gzipped."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from headstart.stages.errors import SetupError

__all__ = ["documents_of", "html_paragraphs", "is_text", "manual_paragraphs"]

_HTML = (".html", ".htm", ".xhtml")
_MANUAL = re.compile(r"\.[1-9][a-z]*")
_CHARSET = re.compile(rb"""charset=["']?([\w-]+)""")
_BLANK = re.compile(r"\n\s*\n")


def _kind(path: Path) -> str:
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_text(path: Path) -> bool:
    """Whether a file's name says that it is of a kind that is read here."""
    kind = _kind(path)
    return kind in (".jsonl", ".txt", *_HTML) or bool(_MANUAL.fullmatch(kind))


def documents_of(path: Path) -> Iterator[list[str]]:
    """Yield each document of a file as its paragraphs; a file is one, a line of JSON is one.

    Raises:
        SetupError: The file is damaged, or a line is no JSON with a `text`.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    kind = _kind(path)
    if kind == ".jsonl":
        yield from _rows(path, data)
        return
    split: Callable[[str], list[str]] = _plain_paragraphs
    if kind in _HTML:
        split = html_paragraphs
    elif _MANUAL.fullmatch(kind):
        split = manual_paragraphs
    yield split(_decoded(data))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = _CHARSET.search(data[:2048])
        try:
            return data.decode(named[1].decode() if named else "latin-1", errors="replace")
        except LookupError:
            return data.decode("latin-1")


def _rows(path: Path, data: bytes) -> Iterator[list[str]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError) as error:
            raise SetupError(f"{path}:{number} is no JSON with a `text`") from error
        if not isinstance(text, str):
            raise SetupError(f"{path}:{number}: `text` must be a text")
        yield _plain_paragraphs(text)


def _plain_paragraphs(text: str) -> list[str]:
    return _BLANK.split(text)


_BLOCKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl"),
        *("dt", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("header", "hr", "li", "main", "nav", "ol", "option", "p", "section", "table", "td"),
        *("th", "title", "tr", "ul"),
    ]
)
_SILENT = frozenset(("code", "kbd", "nav", "pre", "script", "style", "svg"))
"""What stands in these is no language, or stands on every page."""
_KEPT_INLINE = frozenset(("code", "kbd"))
"""But within a sentence it is part of it."""


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._said: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SILENT and not (tag in _KEPT_INLINE and self._said):
            self._silent.append(tag)
        if tag in _BLOCKS or tag == "pre":
            self.close_paragraph()

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()
        if tag in _BLOCKS or tag == "pre":
            self.close_paragraph()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._said.append(data)

    def close_paragraph(self) -> None:
        if text := "".join(self._said).strip():
            self.found.append(text)
        self._said = []


def html_paragraphs(text: str) -> list[str]:
    """Return a page's paragraphs, without its code and its links to other pages."""
    parser = _Paragraphs()
    parser.feed(text)
    parser.close()
    parser.close_paragraph()
    return parser.found


_FONT = re.compile(r"\\f(\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^%)/,:]|\\[zck]")
_NAMED = {
    "aq": "'",
    "bu": "",
    "co": "©",
    "cq": "\N{RIGHT SINGLE QUOTATION MARK}",
    "dq": '"',
    "em": "—",
    "en": "\N{EN DASH}",
    "lq": "“",
    "oq": "\N{LEFT SINGLE QUOTATION MARK}",
    "rq": "”",
    "Bq": "„",
    "Fc": "»",
    "Fo": "«",
    "ha": "^",
    "ti": "~",
}
_CHARACTER = re.compile(r"\\\((..)|\\\[([^]]*)\]")
_FONT_MACROS = frozenset(("B", "I", "BI", "BR", "IB", "IR", "RB", "RI", "SM", "SB"))
_SPACED = frozenset(("B", "I", "SM", "SB"))
"""Others set their arguments without blanks between them."""
_WORD = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


def manual_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a manual page in roff's `man` macros; examples are left out."""
    found: list[str] = []
    said: list[str] = []
    is_example = False

    def close() -> None:
        if said:
            found.append(" ".join(said))
            said.clear()

    for line in text.splitlines():
        if line.startswith((".", "'")):
            name, _, rest = line[1:].strip().partition(" ")
            if name in ("EX", "nf"):
                is_example = True
            elif name in ("EE", "fi"):
                is_example = False
            if name in _FONT_MACROS and not is_example:
                words = [quoted or bare for quoted, bare in _WORD.findall(rest)]
                said.append(_unescaped((" " if name in _SPACED else "").join(words)))
            elif not name.startswith(("\\", '"')):
                close()
        elif not line.strip():
            close()
        elif not is_example:
            said.append(_unescaped(line))
    close()
    return found


def _unescaped(text: str) -> str:
    text = text.partition('\\"')[0]
    text = _CHARACTER.sub(lambda match: _NAMED.get(match[1] or match[2], ""), _FONT.sub("", text))
    text = text.replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ")
    return text.replace("\\e", "\\").replace("\\'", "'").replace("\\`", "`")
