"""Speculation in vLLM's worker process: what vLLM makes of the settings as its own proposer.

vLLM constructs `ParallelDrafter` by its path and hands it its configuration; what a model drafts
with travels there as plain data. Everything that vLLM keeps to itself is in `runner_adapter`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import structlog

from headstart.cluster.drafter_source import table_file
from headstart.cluster.model_card import decided
from headstart.cluster.model_folder import model_shape
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Proposer, Source
from headstart.stages.errors import SetupError
from headstart.stages.index_budget import IndexBudget
from headstart.stages.jacobi import JacobiBlock
from headstart.stages.language import closest
from headstart.stages.ngram_table import NgramTable, TableDrafter
from headstart.stages.speculation import Speculation

__all__ = ["PLAN", "ParallelDrafter", "plan_of", "table_files"]

_log = structlog.get_logger(__name__)

PLAN = "headstart_plan"
"""Key of our plan in vLLM's `additional_config`."""

_BLOCK_TOKENS = 16
"""Of a block, with weights that are tuned for no block length."""


class _Plan(msgspec.Struct):
    default: str
    max_tokens: int
    is_adaptive: bool
    max_slowdown: float
    block_tokens: int | None
    tables: dict[str, str]
    languages: tuple[str, ...]


def plan_of(
    settings: SpeculationSettings, model: Path, languages: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what the worker needs to know, as plain data.

    Args:
        model: Folder of the weights, whose card may declare a block length: it decides what the
            settings leave open.
        languages: Those that are counted one by one.

    Raises:
        SetupError: The card or a table is not fit.
    """
    tables = table_files(settings.tables, model)
    settings = decided(settings, model)
    assert settings.default is not None
    assert settings.max_tokens is not None
    plan = _Plan(
        default=settings.default,
        max_tokens=settings.max_tokens,
        is_adaptive=settings.is_adaptive,
        max_slowdown=settings.max_slowdown,
        block_tokens=settings.block_tokens,
        tables={language: str(path) for language, path in tables.items()},
        languages=languages,
    )
    found: dict[str, Any] = msgspec.to_builtins(plan)
    return found


def table_files(tables: Mapping[str, Path], model: Path | None) -> dict[str, Path]:
    """Return the files of n-gram tables, which can draft for a model.

    Args:
        tables: By language, as in the settings.
        model: Folder of the weights; None is not known yet.

    Raises:
        SetupError: One cannot.
    """
    files = {language: table_file(source, language) for language, source in tables.items()}
    found = {path: _read_table(language, path) for language, path in files.items()}
    if found and model is not None:
        _check_fit(found, model)
    return files


def _check_fit(tables: Mapping[Path, NgramTable], model: Path) -> None:
    own, size = tokenizer_hash(model), model_shape(model).get("vocab_size")
    for path, table in tables.items():
        if table.tokenizer != own:
            raise SetupError(
                f"the n-gram table {path} was made with another tokenizer than that of {model}: "
                "build it from this model's answers"
            )
        if size is not None:  # some formats keep it elsewhere: then the worker finds out
            _check_vocabulary(path, table, size)


def _check_vocabulary(path: Path, table: NgramTable, size: int) -> None:
    """Models of one tokenizer may differ in this: some have room for tokens that are none."""
    if table.vocabulary != size:
        raise SetupError(
            f"the n-gram table {path} is of a vocabulary of {table.vocabulary} tokens, the model "
            f"has {size}: build it from this model's answers"
        )


def _read_table(language: str, path: Path) -> NgramTable:
    try:
        table = NgramTable.decode(path.read_bytes())
    except OSError as error:
        raise SetupError(f"the n-gram table {path} cannot be read: {error.strerror}") from error
    except SetupError as error:
        raise SetupError(f"{path} is {error.message}") from error
    if table.language != language:
        raise SetupError(f"the n-gram table {path} is of {table.language}, not of {language}")
    return table


class ParallelDrafter(Speculation):
    """Speculation as one vLLM worker has it.

    Args:
        vllm_config: vLLM's whole configuration, with our plan in `additional_config`.

    Raises:
        SetupError: A table is of another vocabulary.
    """

    def __init__(self, vllm_config: Any) -> None:
        plan = msgspec.convert(vllm_config.additional_config[PLAN], _Plan)
        vocabulary = vllm_config.model_config.get_vocab_size()
        self.default = plan.default
        self._block_tokens = plan.block_tokens or _BLOCK_TOKENS
        self._tables = {
            language: self._load(language, Path(path), vocabulary)
            for language, path in plan.tables.items()
        }
        self._indexing = IndexBudget()
        automatic = [Source.COPY, Source.DRAFTER]
        if plan.block_tokens is not None:
            automatic.append(Source.JACOBI)
        super().__init__(
            {
                Source.COPY: self._copy,
                Source.DRAFTER: self._drafter,
                Source.JACOBI: self._jacobi,
            },
            automatic,
            max_tokens=plan.max_tokens,
            vocabulary=vocabulary,
            languages=plan.languages,
            is_adaptive=plan.is_adaptive,
            max_slowdown=plan.max_slowdown,
            indexing=self._indexing,
            on_fault=lambda error: _log.error("speculation_failed", exc_info=error),
        )

    def load_model(self, *_: Any) -> None:
        """There is none: vLLM calls it for every proposer."""

    def propose(self, *_: Any) -> NoReturn:
        """What vLLM looks for; our runner calls `step` in its place."""
        raise NotImplementedError("only our own worker can use this drafter")

    def _load(self, language: str, path: Path, vocabulary: int) -> NgramTable:
        table = _read_table(language, path)
        _check_vocabulary(path, table, vocabulary)
        return table

    def _copy(self, tokens: Sequence[int], _: str | None) -> Proposer:
        return CopyDrafter(tokens, self._indexing)

    def _jacobi(self, tokens: Sequence[int], _: str | None) -> Proposer:
        return JacobiBlock(tokens, self._block_tokens)

    def _drafter(self, tokens: Sequence[int], language: str | None) -> Proposer | None:
        """A language's own table, or that of the language it is a variety of."""
        known = None if language is None else closest(language, self._tables)
        return None if known is None else TableDrafter(self._tables[known], tokens)
