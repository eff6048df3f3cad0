"""Asks a server and reduces its answer to what must not depend on who gives it."""

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx

from tests.parity.table import Case

__all__ = ["Answer", "ask", "by_choice", "told_apart"]

_IDS = re.compile(
    r"\b(chatcmpl|cmpl|resp|msg|rs|fc|call|modelperm|tokenize|detokenize)(-tool)?[-_][0-9a-f]{8,}"
)
_TIMES = ("created", "created_at")
_FIGURES = 4
"""Digits of a log-probability that are compared."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer without its ids and times."""

    status: int
    content_type: str
    body: Any
    """JSON; of a stream, a list of the events' names and data."""
    is_cut: bool = False
    """The server hung up before its end, so that there is no body."""


async def ask(client: httpx.AsyncClient, case: Case) -> Answer:
    """Have one request answered."""
    headers = {} if case.content_type is None else {"content-type": case.content_type}
    data = bytearray()
    async with client.stream(case.method, case.path, content=case.body, headers=headers) as answer:
        kind = answer.headers.get("content-type", "")
        try:
            async for piece in answer.aiter_bytes():
                data += piece
        except httpx.RemoteProtocolError:
            return Answer(answer.status_code, kind, None, is_cut=True)
    text = data.decode()
    body = _events(text) if kind.startswith("text/event-stream") else _json(text)
    return Answer(answer.status_code, kind, body)


def by_choice(answer: Answer) -> Answer:
    """Reduce a stream to the texts of its choices and its last chunks.

    Where several answers are made at once, it is chance which of them comes first in a step, and
    how many tokens have come when a chunk is written.
    """
    if not isinstance(answer.body, list):
        return answer
    texts: dict[int, str] = {}
    ends: list[Any] = []
    for event in answer.body:
        data = event[-1][1]
        choices = data["choices"] if isinstance(data, dict) else []
        for choice in choices:
            text = choice["text"] if "text" in choice else choice["delta"].get("content") or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + text
        if not choices or choices[0]["finish_reason"] is not None:
            ends.append([[choice["index"], choice["finish_reason"]] for choice in choices] or data)
    return Answer(
        answer.status, answer.content_type, [sorted(texts.items()), sorted(ends, key=str)]
    )


def told_apart(ours: Answer, theirs: Answer) -> list[str]:
    """Say where two answers differ; a line each."""
    pairs = {
        "status": (ours.status, theirs.status),
        "content type": (ours.content_type, theirs.content_type),
        "cut short": (ours.is_cut, theirs.is_cut),
    }
    lines = [f"{name}: {one!r}, not {two!r}" for name, (one, two) in pairs.items() if one != two]
    return lines + _differences(ours.body, theirs.body, "")


def _differences(ours: Any, theirs: Any, where: str) -> list[str]:
    match ours, theirs:
        case dict(), dict() if list(ours) == list(theirs):
            pairs = [(ours[key], theirs[key], f"{where}.{key}") for key in ours]
        case list(), list() if len(ours) == len(theirs):
            pairs = [
                (*both, f"{where}[{index}]")
                for index, both in enumerate(zip(ours, theirs, strict=True))
            ]
        case _:
            return [] if ours == theirs else [f"{where}: {ours!r:.300}, not {theirs!r:.300}"]
    return [line for mine, other, path in pairs for line in _differences(mine, other, path)]


def _events(text: str) -> list[Any]:
    assert text.endswith("\n\n"), text[-200:]
    blocks = [block for block in text[:-2].split("\n\n") if not block.startswith(":")]
    fields = [[line.partition(": ") for line in block.split("\n")] for block in blocks]
    return [[[name, _json(value)] for name, _, value in lines] for lines in fields]


def _json(text: str) -> Any:
    try:
        return _without_ids(json.loads(text))
    except ValueError:
        return text


def _without_ids(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _without_ids(one, key) for key, one in value.items()}
        case list():
            return [_without_ids(one) for one in value]
        case str():
            return _IDS.sub(r"\1-x", value)
        case float():
            return round(value, _FIGURES)
        case int() if name in _TIMES:
            return 0
        case _:
            return value
