"""`table`: the lightest drafter, an n-gram table of the target's answers and of the corpus."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.recipes.corpus import read_documents
from headstart.recipes.distilling import language_of_answers, read_answers
from headstart.recipes.drafter_model import vocabulary_size
from headstart.recipes.models import Chat, folder_of
from headstart.recipes.options import option
from headstart.recipes.samples import read_card, write_file
from headstart.recipes.trained_on import digests_of, joined
from headstart.stages.errors import SetupError
from headstart.stages.language import TAG
from headstart.stages.ngram_table import NgramTable, build

__all__ = ["TableOptions", "make_table", "read_table"]


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What `table` is told."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    language: str = option("code of the input's language, such as de", form=TAG)
    out: Path = option("the table's file")
    answers: tuple[Path, ...] = option("folders that `distil` made", ())
    num: int | None = option("how many of the answers, drawn by chance; unset: all", None, least=1)
    corpora: tuple[Path, ...] = option("folders that `corpus` made: fill what answers leave", ())
    order: int = option("longest context, in tokens", 4, least=1)
    min_count: int = option("how often a context and what follows must have been seen", 2, least=1)
    max_bytes: int = option("of the file", 3_000_000)


def make_table(options: TableOptions) -> dict[str, Any]:
    """Write a table, whole or not at all; returns what it holds.

    Raises:
        SetupError: There is nothing to count, or the file cannot be written.
    """
    if not options.answers and not options.corpora:
        raise SetupError("a table is counted from --answers, --corpora or both: give one")
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    for one in options.answers:
        _check_language(options, one, language_of_answers(one))
    for one in options.corpora:
        _check_language(options, one, read_card(one, "language", step="`corpus`")["language"])
    answers = [each for one in options.answers for each in read_answers(one, chat)]
    if options.num is not None:
        drawn = np.random.default_rng(0).permutation(len(answers))  # fewer are a part of more
        answers = [answers[place] for place in drawn[: options.num]]
    # The end of the prompt is where answers begin.
    said = ([*each.prompt[-options.order :], *each.answer] for each in answers)
    how: dict[str, Any] = {
        "language": options.language,
        "vocabulary": vocabulary_size(folder),
        "tokenizer": tokenizer_hash(folder),
        "order": options.order,
        "min_count": options.min_count,
    }
    from_answers = build(said, **how)
    from_corpus = build(_documents(options, chat), **how)
    # What the target says counts, whatever the corpus does.
    followers = from_answers.followers | {
        context: follower
        for context, follower in from_corpus.followers.items()
        if context not in from_answers.followers
    }
    if not followers:
        raise SetupError(
            f"nothing was seen {options.min_count} times: give more answers or text, or lower "
            "--min-count"
        )
    whole = msgspec.structs.replace(
        from_answers,
        followers=followers,
        learned_tokens=sum(len(each.answer) for each in answers),
        learned_prompts=joined(digests_of(each.prompt for each in answers)),
    )
    table = _within(options, whole)
    data = table.encode()
    write_file(options.out, data)
    return {
        "table": str(options.out),
        "bytes": len(data),
        "contexts": len(table.followers),
        "contexts_of_answers": len(from_answers.followers.keys() & table.followers.keys()),
        "contexts_left_out": len(followers) - len(table.followers),
        "answers": len(answers),
        "learned_tokens": table.learned_tokens,
    }


def read_table(path: Path, target: Path) -> NgramTable:
    """Read a table's file.

    Args:
        target: Folder of the model that it shall draft for.

    Raises:
        SetupError: It is none, is empty, or of another tokenizer.
    """
    try:
        table = NgramTable.decode(path.read_bytes())
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from error
    except SetupError as error:
        raise SetupError(f"{path}: {error.message}") from error
    if table.tokenizer != tokenizer_hash(target) or table.vocabulary != vocabulary_size(target):
        raise SetupError(f"{path} is of another tokenizer: build it from this target's answers")
    if not table.followers:
        raise SetupError(f"{path} holds no n-gram: build it of more")
    return table


def _check_language(options: TableOptions, folder: Path, language: str) -> None:
    if language != options.language:
        raise SetupError(f"{folder} is of {language}, not of {options.language}")


def _documents(options: TableOptions, chat: Chat) -> Iterator[list[int]]:
    for corpus in options.corpora:
        for text in read_documents(corpus, "train"):
            yield chat.encode(text)


def _within(options: TableOptions, table: NgramTable) -> NgramTable:
    """Leave out the last, the corpus's and the rarest, until the file is small enough."""
    contexts = list(table.followers.items())
    while (size := len(table.encode())) > options.max_bytes:
        contexts = contexts[: int(len(contexts) * min(0.99, options.max_bytes / size))]
        if not contexts:
            raise SetupError(f"no table fits {options.max_bytes} bytes: raise --max-bytes")
        table = msgspec.structs.replace(table, followers=dict(contexts))
    return table
