"""Makes a language's n-gram table from a model's own answers to prompts in that language.

Run by `headstart table` against a running server. The table drafts for the very model that
answered: another one has another way with words, and maybe other token ids.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
from pydantic import TypeAdapter, ValidationError

from headstart.cluster import model_source
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.configs.speculation import Language
from headstart.recipes.drafter_model import vocabulary_size
from headstart.recipes.prompts import Prompt, read_prompts
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import NgramTable, build

__all__ = ["answers", "make"]

_PATIENCE_S = 600.0


class _Choice(msgspec.Struct):
    token_ids: list[int]


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Error(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


def make(
    settings: Settings, model: str | None, language: str, prompts: Path, client: httpx.Client
) -> NgramTable:
    """Ask a server for answers and count what follows what.

    Args:
        model: Name of the model in the settings; None is the first.
        prompts: As `read_prompts` reads them.
        client: Whose base URL is the server's.

    Raises:
        SetupError: There is no such model, language or prompt, or the server does not answer.
    """
    try:
        TypeAdapter(Language).validate_python(language)
    except ValidationError:
        raise SetupError(
            f"{language!r} is no language that settings can name: write `de`, or `pt-BR`"
        ) from None
    chosen = _model(settings, model)
    asked = read_prompts(prompts)
    folder = model_source.resolve(chosen.source, settings.cache_dir)
    vocabulary = vocabulary_size(folder)
    found = list(answers(client, chosen.name, asked))
    known = tokenizer_hash(folder)
    return build(found, language=language, vocabulary=vocabulary, tokenizer=known)


def answers(
    client: httpx.Client, model: str, prompts: Sequence[Prompt], max_tokens: int = 256
) -> Iterator[list[int]]:
    """Yield the token ids of a model's greedy answer to each prompt.

    Raises:
        SetupError: The server refuses, or cannot be reached.
    """
    for prompt in prompts:
        body = {
            "model": model,
            "messages": prompt.messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "return_token_ids": True,
        }
        try:
            answer = client.post("/v1/chat/completions", json=body, timeout=_PATIENCE_S)
            if not answer.is_success:
                raise SetupError(f"{client.base_url} gives no answers: {_refusal(answer)}")
            yield msgspec.json.decode(answer.content, type=_Completion).choices[0].token_ids
        except (httpx.HTTPError, msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            raise SetupError(f"{client.base_url} gives no answers: {error}") from error


def _refusal(answer: httpx.Response) -> str:
    """Return what the server says, or its status where it says nothing in OpenAI's form."""
    try:
        return msgspec.json.decode(answer.content, type=_Refusal).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"status {answer.status_code}"


def _model(settings: Settings, name: str | None) -> ModelSettings:
    for model in settings.models:
        if model.engine == "vllm" and name in (None, model.name):
            return model
    raise SetupError(f"the settings have no model {name or 'with `engine: vllm`'}")
