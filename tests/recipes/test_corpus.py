"""Text in one language, where it is from, and what was left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes.corpus import CorpusOptions, build_corpus
from headstart.stages.errors import SetupError

SENTENCES = [
    f"{subject} {verb} {thing}, und alle hören zu."
    for subject in ("Der alte Gärtner", "Eine junge Ärztin", "Mein Nachbar", "Die kleine Katze")
    for verb in ("erzählt gern von", "wartet schon lange auf", "spricht jeden Abend über")
    for thing in ("den Blumen im Garten", "die Reise nach Hamburg", "das Wetter am Wochenende")
]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A file for each sentence."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, line in enumerate(SENTENCES):
        (folder / f"{number}.txt").write_text(line, encoding="utf-8")
    return folder


def options(*sources: Path, out: Path, language: str = "de", **more: Any) -> CorpusOptions:
    fields = {"license": "CC0-1.0", "heldout": 0.2, **more}
    return CorpusOptions(sources=sources, out=out, language=language, **fields)


def rows(out: Path, part: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / f"{part}.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("language", ["de", "de-AT"])
def test_a_corpus_says_where_it_is_from(texts: Path, tmp_path: Path, language: str) -> None:
    out = tmp_path / "out"
    card = build_corpus(options(texts, out=out, language=language))

    assert card == json.loads((out / "card.json").read_text())
    assert (card["license"], card["language"]) == ("CC0-1.0", language)
    assert card["files"] == len(SENTENCES) == card["train_documents"] + card["heldout_documents"]
    assert len(rows(out, "train")) == card["train_documents"] > len(rows(out, "heldout")) > 0
    sources = [{row["source"] for row in rows(out, part)} for part in ("train", "heldout")]
    assert sources[0].isdisjoint(sources[1])


def test_it_ends_within_a_file_too_and_counts_what_it_read(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in SENTENCES)
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(lines.replace("alle", f"alle {number}"))
    sources = tuple(tmp_path / f"{number}.jsonl" for number in range(3))
    card = build_corpus(options(*sources, out=tmp_path / "out", max_chars=1000))
    assert card["files"] == 1
    found = card["train_characters"] + card["heldout_characters"]
    assert 1000 <= found < 1000 + max(map(len, SENTENCES)) + 2


def test_what_failed_can_be_tried_with_another_share(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SetupError, match="give more text, or another --heldout"):
        build_corpus(options(texts, out=out, heldout=0.001))
    assert build_corpus(options(texts, out=out, heldout=0.3))["heldout_documents"] > 1


@pytest.mark.parametrize(
    ("text", "language", "match"),
    [
        ("Der alte Gärtner erzählt gern von den Blumen im Garten.", "fr", "'another language': 1"),
        ("Kurz.", "de", "'short': 1"),
        ("1234 5678 9012 3456 7890 1234 5678 9012 3456 7890", "de", "'no prose': 1"),
    ],
)
def test_without_text_in_its_language_it_says_what_was_left_out(
    text: str, language: str, match: str, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SetupError, match=match):
        build_corpus(options(tmp_path / "text.txt", out=tmp_path / "c", language=language))
    assert not (tmp_path / "c/train.jsonl").exists()
