"""`corpus`: clean text in one language, its sources and licences recorded.

Built on the user's machine from files that the user names; made whole or not at all.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.models import need
from headstart.recipes.options import option
from headstart.recipes.samples import claim, read_card, write_json
from headstart.recipes.texts import documents_of, is_text
from headstart.recipes.training import described
from headstart.stages.errors import SetupError
from headstart.stages.language import TAG

__all__ = ["CorpusOptions", "build_corpus", "read_documents"]

_BLANKS = re.compile(r"\s+")
_DENSE = ("ja", "th", "zh")
"""A character of these says more than one of others, and words stand without blanks."""
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_MIN_LETTERS = 0.6


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """What `corpus` is told."""

    sources: tuple[Path, ...] = option("files, or folders that hold them: text, JSONL, HTML, man")
    language: str = option("code of the language that is kept, such as de", form=TAG)
    license: str = option("under which the text is, for the card")
    out: Path = option("folder for train.jsonl, heldout.jsonl and card.json")
    origin: str = option("where the text is from, for the card", "")
    heldout: float = option("share of the documents that none is trained on", 0.05)
    min_chars: int = option("shortest paragraph; a third of it in Chinese, Japanese and Thai", 40)
    max_chars: int | None = option("end after so many characters of kept text", None)
    dry_run: bool = option("say what there is to read, then stop", False)


def build_corpus(options: CorpusOptions) -> dict[str, Any]:
    """Read, clean and split the sources; returns the card.

    Raises:
        SetupError: A source cannot be read, or holds nothing in that language.
    """
    need("py3langid")
    if not 0 < options.heldout < 1:
        raise SetupError("--heldout must be above 0 and below 1: both parts are needed")
    # In a drawn order that is always the same: --max-chars shall take some of everything.
    files = sorted(_files(options.sources), key=lambda file: sha256(file[0].encode()).digest())
    if not files:
        raise SetupError(
            f"{', '.join(map(str, options.sources))} holds no .txt, .jsonl, .html or manual page: "
            "unpack packages first (`dpkg-deb -x FILE.deb FOLDER`)"
        )
    if options.dry_run:
        kinds = Counter(path.name.removesuffix(".gz").rpartition(".")[2] for _, path in files)
        size = sum(path.stat().st_size for _, path in files)
        return {"files": len(files), "bytes": size, "kinds": dict(kinds)}
    identity = described(options)
    del identity["dry_run"], identity["out"]
    if (options.out / "run.json").is_file():
        claim(options.out, identity)
    done = options.out / "card.json"
    if done.is_file():
        return read_card(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    counts = _write(options, files)
    claim(options.out, identity)
    card = identity | counts | {"packages": _licences(options.sources)}
    write_json(done, card)
    return card


def read_documents(folder: Path, part: str) -> list[str]:
    """Return the documents of `train` or `heldout`.

    Raises:
        SetupError: The folder holds no corpus.
    """
    try:
        with (folder / f"{part}.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line)["text"] for line in file]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{folder} holds no corpus ({error!r}): run `corpus`") from error


def _files(sources: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Yield files and their names for the corpus."""
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if is_text(path) and path.is_file() and not path.is_symlink():
                    yield path.relative_to(source).as_posix(), path
        elif source.is_file():
            yield source.name, source
        else:
            raise SetupError(f"{source} is not there: give files or folders of text")


def _write(options: CorpusOptions, files: list[tuple[str, Path]]) -> dict[str, Any]:
    cleaner = _Cleaner(options)
    counts: Counter[str] = Counter()
    partials = {part: options.out / f"{part}.jsonl.partial" for part in ("train", "heldout")}
    try:
        with (
            partials["train"].open("w", encoding="utf-8") as train,
            partials["heldout"].open("w", encoding="utf-8") as heldout,
        ):
            for name, number, kept in _documents(options, cleaner, files, counts):
                text = "\n\n".join(kept)
                place = sha256(f"{name}:{number}".encode()).digest()
                is_held = int.from_bytes(place[:4]) < options.heldout * 2**32
                row = {"source": name, "text": text}
                (heldout if is_held else train).write(json.dumps(row, ensure_ascii=False) + "\n")
                part = "heldout" if is_held else "train"
                counts[f"{part}_documents"] += 1
                counts[f"{part}_characters"] += len(text)
        if not counts["train_documents"] or not counts["heldout_documents"]:
            raise SetupError(
                f"{counts['train_documents']} documents in {options.language} to train on and "
                f"{counts['heldout_documents']} to hold out: give more text, or another --heldout "
                f"({dict(cleaner.left_out)} left out)"
            )
        for part, path in partials.items():
            path.replace(options.out / f"{part}.jsonl")
    except OSError as error:
        raise SetupError(f"{options.out} cannot be written: {error.strerror}") from error
    finally:
        for path in partials.values():
            path.unlink(missing_ok=True)
    return dict(counts) | {"left_out": dict(cleaner.left_out)}


def _documents(
    options: CorpusOptions,
    cleaner: "_Cleaner",
    files: Sequence[tuple[str, Path]],
    counts: Counter[str],
) -> Iterator[tuple[str, int, list[str]]]:
    """Yield what is kept of each document, its file's name and its number there."""
    for name, path in tqdm(files, desc="files"):
        counts["files"] += 1
        for number, paragraphs in enumerate(documents_of(path)):
            if kept := cleaner.kept(paragraphs):
                yield name, number, kept
            if options.max_chars is not None and cleaner.num_chars >= options.max_chars:
                return


class _Cleaner:
    """Keeps paragraphs that are whole, new, and in the language."""

    def __init__(self, options: CorpusOptions) -> None:
        from headstart.stages.language import code_of

        self._code = code_of(options.language)
        dense = self._code in _DENSE
        self._min_chars = options.min_chars // 3 if dense else options.min_chars
        self._seen: set[bytes] = set()
        self.left_out: Counter[str] = Counter()
        self.num_chars = 0

    def kept(self, paragraphs: list[str]) -> list[str]:
        found = []
        for each in paragraphs:
            text = _BLANKS.sub(" ", unicodedata.normalize("NFC", each)).strip()
            if flaw := self._flaw(text):
                self.left_out[flaw] += 1
            else:
                found.append(text)
                self.num_chars += len(text)
        return found

    def _flaw(self, text: str) -> str | None:
        from headstart.stages.language import language_of

        if len(text) < self._min_chars:
            return "short"
        if sum(map(str.isalpha, text)) < _MIN_LETTERS * len(text.replace(" ", "")):
            return "no prose"
        digest = sha256(text.casefold().encode()).digest()[:12]
        if digest in self._seen:
            return "repeated"
        self._seen.add(digest)
        return None if language_of(text) == self._code else "another language"


def _licences(sources: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Return what Debian's packages say of their licences, where their folders are given."""
    found = []
    for source in sources:
        for path in sorted(source.rglob("copyright")) if source.is_dir() else ():
            data = path.read_bytes()
            said = sorted(set(_LICENCE.findall(data.decode("utf-8", errors="replace"))))
            digest = sha256(data).hexdigest()
            found.append({"package": path.parent.name, "licenses": said, "sha256": digest})
    return found
