"""A live prompt's session behind a network that loses requests and responses, as it is told to."""

import asyncio
from contextlib import suppress
from hashlib import sha256
from typing import Any

import httpx
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncLivePrompt
from headstart.client.errors import error_of
from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import (
    EngineUnavailable,
    HeadstartError,
    LiveConflict,
    LiveRefused,
)
from headstart.stages.prompt_document import EditError, PromptDocument
from tests.support.waiting import soon

__all__ = [
    "AT_ONCE",
    "LATE",
    "LOST",
    "QUICK",
    "SOON",
    "TAKEN",
    "UNHEARD",
    "Fake",
    "Read",
    "outcomes",
]

QUICK = LadderLimits(resume_s=60.0, min_retry_s=0.0, max_retry_s=0.0)
AT_ONCE = LadderLimits(resume_s=0.0, min_retry_s=0.0, max_retry_s=0.0)
TAKEN, UNHEARD, SOON, LATE, LOST = "taken", "unheard", "soon", "late", "lost"
"""What becomes of a request: it is answered; its response is lost; it comes just before the next
edits, or just behind them, when nobody waits for its response; it is lost."""


class Fake:
    """A gateway's session, and a network that loses what it is told to."""

    def __init__(self, fates: list[str], max_chars: int = 40) -> None:
        self.document = PromptDocument(max_chars)
        self.fates = fates
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.late: list[dict[str, Any]] = []
        self.soon: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self.is_answering = False
        self.is_committing = False
        self.num_looks = 0
        """For which a commit waits for a thought; then it is sent off, unless it is dropped."""
        self.is_dropped = False
        self.gate: asyncio.Semaphore | None = None

    def prompt(self, limits: LadderLimits = QUICK) -> AsyncLivePrompt:
        return AsyncLivePrompt(self.ask, self.read, self.state(), limits)

    async def ask(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        self.asked.append((method, body))
        if self.gate is not None:
            await self.gate.acquire()
        fate = self.fates.pop(0) if self.fates else TAKEN
        if method == "PATCH":
            self.come(self.soon)
            if fate in (SOON, LATE):
                (self.soon if fate == SOON else self.late).append(body)
        answer: HeadstartError | httpx.Response | None = None
        if fate in (TAKEN, UNHEARD):
            try:
                answer = self.take(method, path, body)
            except HeadstartError as error:
                answer = error_of(error.http_status, told(error))
        if method == "PATCH" and fate != LATE:
            self.come(self.late)
        if fate != TAKEN or answer is None:
            raise EngineUnavailable("the gateway cannot be reached") from httpx.ReadError("lost")
        if isinstance(answer, HeadstartError):
            raise answer
        return answer

    def come(self, bodies: list[dict[str, Any]]) -> None:
        """Take what nobody hears of."""
        while bodies:
            with suppress(HeadstartError):
                self.take("PATCH", "", bodies.pop(0))

    def take(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/commit"):
            return self.commit(body)
        if path.startswith("/v1/streams/"):
            return httpx.Response(200, headers={"x-headstart-stream": self.answers[-1]})
        if method == "DELETE":
            return httpx.Response(204)
        if path.endswith("/cancel"):
            self.is_committing = self.is_answering = False
        if method == "GET":
            self.looked_at()
        for edit in body.get("edits", []):
            self.edit(edit)
        return self.state()

    def edit(self, edit: dict[str, Any]) -> None:
        document, kind = self.document, edit["type"].removeprefix("input_text.")
        if self.is_answering:
            raise LiveConflict("an answer is being made", code="response_in_progress")
        if edit["version"] != document.version:
            raise LiveConflict("another version", param="version", code="version_conflict")
        if kind == "append":
            made = document.append(edit["text"])
        elif kind == "replace":
            made = document.replace(edit["start"], edit["end"], edit["text"])
        else:
            made = document.clear()
        if isinstance(made, EditError):
            raise LiveRefused("it does not fit", code=made.value)

    def commit(self, body: dict[str, Any]) -> httpx.Response:
        if self.is_answering or self.is_committing:
            raise LiveConflict("an answer is being made", code="response_in_progress")
        for edit in body.get("edits", []):
            if edit["version"] >= self.document.version:
                self.edit(edit)
        if body.get("sha256") not in (None, sha256(self.document.text.encode()).hexdigest()):
            raise LiveConflict("another text", param="sha256", code="version_conflict")
        if body["version"] != self.document.version:
            raise LiveConflict("another version", param="version", code="version_conflict")
        if not self.document.text:
            raise LiveRefused("there is no text to send off", code="nothing_to_commit")
        if self.num_looks:
            self.is_committing = True
            return httpx.Response(200)  # which is not heard
        return self.sent_off()

    def sent_off(self) -> httpx.Response:
        self.answers.append(f"answer-{len(self.answers)}")
        self.is_answering = True
        return httpx.Response(200, headers={"x-headstart-stream": self.answers[-1]})

    def answered(self, *, has_failed: bool = False) -> None:
        self.is_answering = False
        if not has_failed:
            self.document.clear()

    def looked_at(self) -> None:
        """A commit that waits for a thought goes on."""
        self.num_looks -= self.is_committing
        if self.is_committing and not self.num_looks:
            self.is_committing = False
            if not self.is_dropped:
                self.sent_off()

    def state(self) -> httpx.Response:
        computed = {"version": 0, "prompt_tokens": 0, "stable_tokens": 0, "warm_tokens": 0}
        text, version = self.document.text, self.document.version
        state = {"id": "a", "version": version, "num_chars": len(text), "text": text}
        answer: dict[str, Any] = {}
        if self.answers:
            status = "in_progress" if self.is_answering else "completed"
            answer = {"response": {"id": self.answers[-1], "status": status}}
        doing = {"is_answering": self.is_answering, "is_committing": self.is_committing}
        return httpx.Response(200, json=state | doing | answer | {"computed": computed})

    def read(self, response: httpx.Response) -> AsyncAnswer[ChatCompletionChunk]:
        return Read(response)  # type: ignore[return-value]


class Read:
    def __init__(self, response: httpx.Response) -> None:
        self.id = response.headers["x-headstart-stream"]


def told(error: HeadstartError) -> bytes:
    body = {"message": error.message, "type": error.kind, "param": error.param, "code": error.word}
    return httpx.Response(200, json={"error": body}).content


async def outcomes(*edits: Any) -> list[str]:
    """Make edits at once; return what became of each, in a word."""
    ended = await soon(asyncio.gather(*edits, return_exceptions=True))
    return [word(one) for one in ended]


def word(ended: object) -> str:
    if ended is None:
        return "made"
    assert isinstance(ended, HeadstartError), ended
    return str(ended.code)
