"""Paragraphs of files as Debian's packages and users have them."""

import gzip
import json
from pathlib import Path

import pytest

from headstart.recipes.language_prompts import LANGUAGES, prompts_from
from headstart.recipes.texts import documents_of, html_paragraphs, is_text, manual_paragraphs
from headstart.stages.errors import SetupError


def test_a_page_without_its_code_and_navigation() -> None:
    page = """<html><head><title>Hilfe</title><style>p {}</style></head><body>
    <nav>Zurück <a href="x">weiter</a></nav><h1>Über   das Drucken</h1>
    <p>Mit <code>lpr</code> drucken Sie &auml;hnlich <b>gut</b>.</p><pre>lpr x</pre>
    <ul><li>Eins<li>Zwei</ul>Ende</body></html>"""

    assert html_paragraphs(page) == [
        "Hilfe",
        "Über   das Drucken",
        "Mit lpr drucken Sie ähnlich gut.",
        "Eins",
        "Zwei",
        "Ende",
    ]


def test_a_manual_page_without_its_macros_and_examples() -> None:
    page = r""".\\" eine Bemerkung
.TH LS 1 "März 2024"
.SH BEZEICHNUNG
ls \- Verzeichnisinhalte auflisten
.PP
Zeigt Informationen zu den
.IR DATEI en
an; \fB\-a\fP zeigt \(lqalle\(rq.
.EX
ls -a
.EE
.TP
.B \-\-hilfe
Diese Hilfe.
""".replace("\\\\", "\\")

    assert manual_paragraphs(page) == [
        "ls - Verzeichnisinhalte auflisten",
        "Zeigt Informationen zu den DATEIen an; -a zeigt “alle”.",
        "--hilfe Diese Hilfe.",
    ]


def test_files_are_told_by_their_names(tmp_path: Path) -> None:
    names = ("a.txt", "b.html", "c.1.gz", "d.7", "e.jsonl", "f.xhtml.gz")
    assert all(is_text(Path(name)) for name in names)
    assert not any(is_text(Path(name)) for name in ("a.png", "b", "changelog.gz", "c.deb"))
    old = tmp_path / "old.html"
    old.write_bytes('<meta charset="iso-8859-1"><p>Größe</p>'.encode("latin-1"))
    assert list(documents_of(old)) == [["Größe"]]
    zipped = tmp_path / "a.txt.gz"
    zipped.write_bytes(gzip.compress(b"Eins.\n\nZwei."))
    assert list(documents_of(zipped)) == [["Eins.", "Zwei."]]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "Eins.\n \nZwei."}) + "\n\n" + json.dumps({"text": "Drei"}))
    assert list(documents_of(rows)) == [["Eins.", "Zwei."], ["Drei"]]


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"long" * 99)[:-9], "cannot be read"),
        ("a.jsonl", b'{"text": "x"}\n{"no": 1}', "a.jsonl:2 is no JSON"),
        ("a.jsonl", b'{"text": 1}', "must be a text"),
    ],
    ids=["no_gzip", "half_a_gzip", "a_line_without_text", "a_number"],
)
def test_damaged_files_are_named(name: str, data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(SetupError, match=match):
        list(documents_of(tmp_path / name))


def test_prompts_are_made_of_whole_sentences_in_turn() -> None:
    text = "Der erste Satz ist lang genug. Kurz.\n\nUnd der zweite Satz ist es ebenfalls! Der Rest"

    found = prompts_from([text, text], "de", 9, 0)

    sentences = {"Der erste Satz ist lang genug.", "Und der zweite Satz ist es ebenfalls!"}
    assert [row["task"] for row in found] == ["translate", "question"]
    assert {row["prompt"].partition(": ")[2] for row in found[:1]} < sentences
    assert found == prompts_from([text], "de", 9, 0)
    assert found[:1] == prompts_from([text], "de", 1, 0)
    assert prompts_from(["这是一个足够长的中文句子。下一句话也足够长了。"], "zh", 9, 0)
    for _, questions in LANGUAGES.values():
        assert all("{}" in each for each in questions)
    with pytest.raises(SetupError, match="no sentence"):
        prompts_from(["x"], "de", 9, 0)
