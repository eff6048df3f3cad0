"""`export`: a drafter for one language, small, with a card that says what it drafts for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.recipes import trained_on
from headstart.recipes.drafter_model import NOTE, Drafter
from headstart.recipes.models import Chat, folder_of
from headstart.recipes.options import option
from headstart.recipes.samples import card_of, write_folder
from headstart.stages.errors import SetupError
from headstart.stages.language import TAG

__all__ = ["ExportOptions", "export"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `export` is told."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    drafter: Path = option("a drafter's folder, or a table")
    language: str = option("code of the input's language, such as de", form=TAG)
    out: Path = option("folder for the drafter and its card")
    name: str = option("of the drafter, for the card")
    figures: Path | None = option("figures.json of `evaluate`, for the card", None)
    arm: str | None = option("which arm of the figures this drafter is; unset: all are shown", None)
    license: str = option("of the drafter, as the card says it", "apache-2.0")
    text_license: str | None = option("of the text that it was made from, for the card", None)
    max_bytes: int = option("largest file", 3_000_000)
    full: Path | None = option(
        "also write it here at the target's vocabulary size, for vLLM's draft_model", None
    )


def export(options: ExportOptions) -> dict[str, Any]:
    """Write the drafter and its card, whole or not at all; returns what was written.

    Raises:
        SetupError: It is no drafter of this target, a table of another language, or too large.
    """
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    if options.drafter.is_dir():
        return _export_model(options, chat)
    return _export_table(options, chat, folder)


def _export_table(options: ExportOptions, chat: Chat, target: Path) -> dict[str, Any]:
    from headstart.recipes.table_building import read_table

    if options.full is not None:
        raise SetupError("--full is for neural drafters: the server's worker reads a table")
    table = read_table(options.drafter, target)
    data = options.drafter.read_bytes()
    if table.language != options.language:
        raise SetupError(f"{options.drafter} is of {table.language}, not of {options.language}")
    _check_size(options, len(data))
    name = f"{options.language}.table"
    facts = {"kind": "table", "file": name, "vocabulary": table.vocabulary}
    facts |= {"tokenizer": table.tokenizer}
    card = _card(options, facts, {"contexts": len(table.followers), "order": table.order})

    def write(folder: Path) -> None:
        (folder / name).write_bytes(data)
        (folder / "README.md").write_text(card, encoding="utf-8")

    write_folder(options.out, "README.md", write)
    settings = {"speculation": {"tables": {options.language: str(options.out / name)}}}
    return {"drafter": str(options.out), "bytes": len(data), "settings": settings}


def _export_model(options: ExportOptions, chat: Chat) -> dict[str, Any]:
    from headstart.recipes.trimming import widened

    drafter = Drafter.load(options.drafter, "cpu")
    drafter.check(chat.identity, options.drafter)
    size = 2 * sum(each.numel() for each in drafter.model.parameters())
    _check_size(options, size)
    facts = {"kind": "model", "vocabulary": drafter.vocabulary.size, "tokenizer": chat.identity}
    config = drafter.model.config
    shown = {
        "layers": config.num_hidden_layers,
        "hidden size": config.hidden_size,
        "tokens that it knows": drafter.vocabulary.own_size,
    }
    card = _card(options, facts, shown)
    learned = trained_on.noted(options.drafter)

    def write(folder: Path) -> None:
        drafter.model.bfloat16()
        drafter.save(folder)
        trained_on.note(folder, learned)
        (folder / "README.md").write_text(card, encoding="utf-8")

    def write_full(folder: Path) -> None:
        widened(drafter).bfloat16().save_pretrained(folder)
        chat.tokenizer.save_pretrained(folder)
        (folder / NOTE).write_text(json.dumps({"tokenizer": chat.identity}) + "\n")
        (folder / "README.md").write_text(card, encoding="utf-8")

    if options.full is not None:
        write_folder(options.full, NOTE, write_full)
    write_folder(options.out, NOTE, write)
    return {
        "drafter": str(options.out),
        "bytes": size,
        "full": None if options.full is None else str(options.full),
    }


def _check_size(options: ExportOptions, size: int) -> None:
    if size > options.max_bytes:
        raise SetupError(
            f"the drafter has {size / 1e6:.1f} MB and may have {options.max_bytes / 1e6:.1f}: "
            "`trim` it to fewer tokens, train a smaller one, or raise --max-bytes"
        )


def _card(options: ExportOptions, facts: dict[str, Any], shown: dict[str, Any]) -> str:
    head = {
        "license": options.license,
        "language": options.language,
        "base_model": options.model,
        "model_name": options.name,
        "headstart": {"drafter": facts | {"language": options.language}},
    }
    said = (
        f"Drafts answers of {options.model} to input in `{options.language}`, made by `headstart "
        "recipe drafter`. Answers stay the target's own: a wrong draft costs time only."
    )
    measured = _measured(options) if options.figures is not None else {}
    return card_of(head, options.name, said, shown | {"text": options.text_license} | measured)


def _measured(options: ExportOptions) -> dict[str, float]:
    """Return tokens a step: of the drafter if its arm is named, and of what needs none."""
    path = options.figures
    assert path is not None
    try:
        figures = json.loads(path.read_bytes())
        language, replayed = str(figures["language"]), figures["replayed"]
        found = {
            (temperature, name): arm["accepted_length"]
            for temperature, arms in replayed.items()
            for name, arm in arms.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{path} holds no figures of `evaluate`: {error}") from error
    if language != options.language:
        raise SetupError(f"{path} has figures of {language}, not of {options.language}")
    names = {name for _, name in found}
    if options.arm is not None and options.arm not in names:
        raise SetupError(f"{path} has no arm {options.arm}: it has {', '.join(sorted(names))}")
    shown = names if options.arm is None else {options.arm, "none", "ngram"}
    return {
        f"tokens a step at T={temperature}: {name}": length
        for (temperature, name), length in found.items()
        if name in shown
    }
