"""Edits of a live prompt whose requests are refused or lost: the client knows what there is."""

import asyncio
import sys
from contextlib import suppress
from hashlib import sha256
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncLivePrompt, live
from headstart.client.errors import error_of
from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import (
    BadRequest,
    Cancelled,
    EngineUnavailable,
    HeadstartError,
    LiveConflict,
    LiveRefused,
    NotFound,
)
from headstart.stages.prompt_document import EditError, PromptDocument
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

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


async def test_each_edit_has_its_own_outcome() -> None:
    fake = Fake([])
    prompt = fake.prompt()
    ended = await outcomes(
        prompt.append("Name three "),
        prompt.replace(0, 4, "List"),
        prompt.replace(5, 99, ""),
        prompt.append("colours."),
        prompt.clear(),
    )
    assert ended == ["made", "made", "out_of_range", "not_made", "not_made"]
    assert prompt.text == fake.document.text == "List three "
    await soon(prompt.append("colours."))
    assert prompt.text == fake.document.text == "List three colours."


async def test_edits_behind_one_that_is_under_way_go_with_its_refusal() -> None:
    fake = Fake([])
    gate = fake.gate = asyncio.Semaphore(0)
    prompt = fake.prompt()
    edits = [asyncio.ensure_future(prompt.append("a"))]
    await eventually(lambda: len(fake.asked) == 1)
    edits += [asyncio.ensure_future(one) for one in (prompt.replace(7, 9, ""), prompt.append("c"))]
    gate.release()
    await eventually(lambda: len(fake.asked) == 2)
    edits.append(asyncio.ensure_future(prompt.append("d")))  # while the bad one is under way
    await eventually(lambda: prompt.text.endswith("cd"))
    for _ in range(2):  # the request, and what it has done
        gate.release()
    assert await outcomes(*edits) == ["made", "out_of_range", "not_made", "not_made"]
    assert prompt.text == fake.document.text == "a"


async def test_each_edit_says_which_version_it_is_about() -> None:
    fake = Fake([])
    prompt = fake.prompt()
    await soon(asyncio.gather(prompt.append("a"), prompt.append("b")))
    await soon(prompt.clear())
    edits = [edit for _, body in fake.asked for edit in body["edits"]]
    assert [edit["version"] for edit in edits] == [0, 1, 2]


@pytest.mark.parametrize("fate", [UNHEARD, SOON, LATE, LOST])
async def test_a_lost_response_is_asked_for(fate: str) -> None:
    fake = Fake([fate])
    prompt = fake.prompt()
    assert await outcomes(prompt.append("a"), prompt.append("b")) == ["made", "made"]
    assert prompt.text == fake.document.text == "ab"
    fake.come(fake.late)
    assert await outcomes(prompt.append("c")) == ["made"]
    assert prompt.text == fake.document.text == "abc"
    sent = [method for method, _ in fake.asked]
    assert sent[:2] == ["PATCH", "GET"]
    assert (sent.count("PATCH") == 2) == (fate == UNHEARD)


async def test_patience_begins_anew_where_requests_arrive() -> None:
    fake = Fake([UNHEARD, TAKEN] * 30)
    prompt = fake.prompt(LadderLimits(resume_s=60.0, min_retry_s=1e-6, max_retry_s=3600.0))
    for _ in range(30):  # else the last one would be waited for for minutes
        await soon(prompt.append("a"), 10.0)
    assert prompt.text == fake.document.text


@pytest.mark.parametrize("fate", [UNHEARD, SOON, LATE, LOST])
async def test_a_refusal_that_is_not_heard_is_told_to_who_made_the_edit(fate: str) -> None:
    fake = Fake([fate])
    prompt = fake.prompt()
    ended = await outcomes(prompt.append("a"), prompt.replace(4, 5, ""), prompt.append("b"))
    assert ended == ["made", "out_of_range", "not_made"]
    assert prompt.text == fake.document.text == "a"


async def test_nobody_answers_at_all() -> None:
    fake = Fake([UNHEARD])
    prompt = fake.prompt(AT_ONCE)
    with pytest.raises(EngineUnavailable):
        await soon(prompt.append("a"))
    # It was made, which nobody knows: what is about another text is refused.
    assert await outcomes(prompt.append("b")) == ["version_conflict"]
    assert prompt.text == fake.document.text == "a"
    assert await outcomes(prompt.append("b")) == ["made"]
    assert prompt.text == fake.document.text == "ab"


async def test_somebody_else_edits_the_text() -> None:
    fake = Fake([])
    prompt = fake.prompt()
    await soon(prompt.append("a"))
    fake.document.append("b")
    assert await outcomes(prompt.append("c"), prompt.append("d")) == [
        "version_conflict",
        "not_made",
    ]
    assert prompt.text == "ab"
    await soon(prompt.append("c"))
    assert prompt.text == fake.document.text == "abc"


async def test_one_that_makes_the_whole_request_invalid_is_found() -> None:
    fake = Fake([])
    take = fake.take

    def strict(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if any(edit.get("start", 0) >= 1 << 63 for edit in body.get("edits", [])):
            raise LiveRefused("out of the integers' range", code="invalid_body")
        return take(method, path, body)

    fake.take = strict  # type: ignore[method-assign]
    prompt = fake.prompt()
    ended = await outcomes(prompt.append("a"), prompt.replace(1 << 63, 1 << 63, ""), prompt.clear())
    assert ended == ["made", "invalid_body", "not_made"]
    with pytest.raises(BadRequest):
        await soon(prompt.append("\ud800"))
    assert prompt.text == fake.document.text == "a"


async def test_who_waits_no_longer_has_made_the_edit() -> None:
    fake = Fake([])
    gate = fake.gate = asyncio.Semaphore(0)
    prompt = fake.prompt()
    edits = [asyncio.ensure_future(prompt.append(letter)) for letter in "ab"]
    await eventually(lambda: len(fake.asked) == 1)
    edits[0].cancel()
    gate.release()
    await soon(edits[1])
    assert prompt.text == fake.document.text == "ab"


@pytest.mark.parametrize("fates", [[TAKEN], [UNHEARD], [LOST], [UNHEARD, LOST], [LOST, UNHEARD]])
async def test_a_commit_is_taken_once(fates: list[str]) -> None:
    fake = Fake([TAKEN, *fates])
    prompt = fake.prompt()
    await soon(prompt.append("a"))
    answer = await soon(prompt.commit())
    assert [answer.id] == fake.answers
    assert prompt.text == ""
    assert await outcomes(prompt.append("b")) == ["response_in_progress"]
    fake.answered()
    assert await outcomes(prompt.append("b")) == ["made"]
    assert prompt.text == fake.document.text == "b"
    answer = await soon(prompt.commit())
    assert answer.id == fake.answers[-1] != fake.answers[0]


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("is_dropped", [False, True])
async def test_a_commit_that_waits_for_a_thought_unheard_is_answered_once(
    is_late: bool, is_dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_COMMITTING_S", 0.0)
    fake = Fake([TAKEN, LOST if is_late else UNHEARD])
    take, late = fake.take, [{"version": 1}] if is_late else []

    def crossed(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/commit") and late:  # as the one that was sent again comes
            take(method, path, late.pop())
        return take(method, path, body)

    fake.take = crossed  # type: ignore[method-assign]
    fake.num_looks, fake.is_dropped = 5, is_dropped
    prompt = fake.prompt()
    await soon(prompt.append("a"))
    answer = await soon(prompt.commit())
    assert [answer.id] == fake.answers
    assert (prompt.text, fake.num_looks) == ("", 0)


async def test_a_commit_that_is_cancelled_unheard_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "_COMMITTING_S", 0.0)
    fake = Fake([TAKEN, UNHEARD])
    fake.num_looks = sys.maxsize
    prompt = fake.prompt()
    await soon(prompt.append("a"))
    commit = asyncio.ensure_future(prompt.commit())
    await eventually(lambda: fake.is_committing)
    await soon(prompt.cancel())
    assert await outcomes(commit) == ["commit_cancelled"]
    assert prompt.text == fake.document.text == "a"
    assert not fake.answers


async def test_an_edit_behind_a_commit_that_waits_unheard_is_told_so() -> None:
    fake = Fake([TAKEN, UNHEARD])
    fake.num_looks = sys.maxsize
    prompt = fake.prompt(AT_ONCE)
    await soon(prompt.append("a"))
    with pytest.raises(EngineUnavailable):
        await soon(prompt.commit())
    assert await outcomes(prompt.append("b")) == ["response_in_progress"]


async def test_a_commit_behind_a_refusal_is_refused_and_so_is_what_follows_a_refused_commit() -> (
    None
):
    fake = Fake([])
    prompt = fake.prompt()
    assert await outcomes(prompt.replace(3, 4, ""), prompt.commit(), prompt.append("x")) == [
        "out_of_range",
        "not_made",
        "not_made",
    ]
    assert await outcomes(prompt.commit(), prompt.append("x")) == ["nothing_to_commit", "not_made"]
    assert prompt.text == fake.document.text == ""
    assert not fake.answers


async def test_an_answer_that_fails_leaves_the_text() -> None:
    fake = Fake([])
    prompt = fake.prompt()
    await soon(prompt.append("a"))
    await soon(prompt.commit())
    fake.answered(has_failed=True)
    await soon(prompt.commit())  # once more
    assert len(fake.answers) == 2
    fake.answered(has_failed=True)
    assert await outcomes(prompt.append("b")) == ["response_failed"]
    assert prompt.text == fake.document.text == "a"
    await soon(prompt.append("b"))
    assert prompt.text == fake.document.text == "ab"


async def test_a_commit_in_its_turn_that_is_given_up_takes_what_is_behind_it_along() -> None:
    fake = Fake([UNHEARD])
    gate = fake.gate = asyncio.Semaphore(1)
    prompt = fake.prompt()
    before = asyncio.ensure_future(prompt.append("a"))
    await eventually(lambda: len(fake.asked) == 2)  # and now the gateway is asked what it has
    commit = asyncio.ensure_future(prompt.commit())
    behind = asyncio.ensure_future(prompt.append("b"))
    await eventually(lambda: prompt.text == "b")
    commit.cancel()
    assert await outcomes(behind) == ["not_made"]
    gate.release()
    await soon(before)
    assert prompt.text == fake.document.text == "a"
    assert not fake.answers


async def overtaken(fake: Fake) -> tuple[AsyncLivePrompt, list[asyncio.Future[Any]]]:
    """Let a prompt be sent off while its only edit is under way."""
    fake.gate = asyncio.Semaphore(0)
    prompt = fake.prompt()
    acts: list[asyncio.Future[Any]] = [asyncio.ensure_future(prompt.append("a"))]
    await eventually(lambda: len(fake.asked) == 1)
    acts.append(asyncio.ensure_future(prompt.append("b")))
    acts.append(asyncio.ensure_future(prompt.commit()))
    await eventually(lambda: len(fake.asked) == 2)
    return prompt, acts


@pytest.mark.parametrize("is_first", [False, True])
async def test_a_commit_does_not_wait_for_what_is_under_way(is_first: bool) -> None:
    fake = Fake([])
    ask = fake.ask
    edits = asyncio.Event()

    async def reordered(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if method == "PATCH" and not is_first:
            fake.asked.append((method, body))
            await edits.wait()
            fake.asked.pop()
        return await ask(method, path, body)

    fake.ask = reordered  # type: ignore[method-assign]
    prompt, (first, second, commit) = await overtaken(fake)
    assert fake.gate is not None
    fake.gate.release()
    fake.gate.release()
    answer = await soon(commit)
    await soon(asyncio.gather(first, second))
    edits.set()
    assert [answer.id] == fake.answers
    assert fake.document.text == "ab"
    body = fake.asked[-1 if is_first else 1][1]
    assert body["version"] == 2
    assert [edit["version"] for edit in body["edits"]] == [0, 1]
    fake.gate = None
    fake.answered()
    assert await outcomes(prompt.append("c")) == ["made"]
    assert prompt.text == fake.document.text == "c"


async def test_a_commit_that_took_edits_along_and_is_given_up() -> None:
    fake = Fake([])
    prompt, acts = await overtaken(fake)
    acts.append(asyncio.ensure_future(prompt.append("x")))
    await eventually(lambda: prompt.text == "x")
    acts[2].cancel()
    ended = await soon(asyncio.gather(*acts, return_exceptions=True))
    assert [type(one) for one in ended] == [
        Cancelled,
        Cancelled,
        asyncio.CancelledError,
        Cancelled,
    ]
    fake.gate = None
    # Nobody knows what was made: what is about another text is refused, and the right one known.
    (word_of,) = await outcomes(prompt.append("c"))
    assert word_of in ("made", "version_conflict")
    assert prompt.text == fake.document.text


async def test_a_commit_that_took_edits_along_and_is_not_answered() -> None:
    fake = Fake([UNHEARD])
    prompt = fake.prompt(AT_ONCE)
    ended = await soon(asyncio.gather(prompt.append("a"), prompt.commit(), return_exceptions=True))
    assert [type(one) for one in ended] == [EngineUnavailable, EngineUnavailable]
    assert len(fake.answers) == 1  # which nobody knows
    assert await outcomes(prompt.append("b")) == ["response_in_progress"]
    fake.answered()
    assert await outcomes(prompt.append("b"), prompt.append("b")) in (
        ["version_conflict", "not_made"],
        ["made", "made"],
    )
    assert prompt.text == fake.document.text


async def test_a_refused_commit_says_of_each_edit_that_it_took_along_how_it_ended() -> None:
    fake = Fake([])
    prompt = fake.prompt()
    assert await outcomes(
        prompt.append("a"), prompt.replace(3, 4, ""), prompt.append("b"), prompt.commit()
    ) == ["made", "out_of_range", "not_made", "not_made"]
    assert prompt.text == fake.document.text == "a"
    assert await outcomes(prompt.clear(), prompt.commit(), prompt.append("x")) == [
        "made",
        "nothing_to_commit",
        "not_made",
    ]
    assert prompt.text == fake.document.text == ""


async def test_a_gateway_that_takes_no_edits_along_gets_them_before() -> None:
    fake = Fake([])
    take = fake.take

    def strict(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/commit") and "edits" in body:
            raise LiveRefused("unknown field", code="invalid_body")
        return take(method, path, body)

    fake.take = strict  # type: ignore[method-assign]
    prompt = fake.prompt()
    assert (await outcomes(prompt.append("a"), prompt.append("b")))[-1] == "made"
    _, answer = await soon(asyncio.gather(prompt.append("c"), prompt.commit()))
    assert [answer.id] == fake.answers
    assert fake.document.text == "abc"


async def test_a_gateway_that_forgot_the_session_says_so_to_all() -> None:
    fake = Fake([])
    prompt = fake.prompt()

    def gone(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        raise NotFound("no such live prompt")

    fake.take = gone  # type: ignore[method-assign]
    ended = await soon(
        asyncio.gather(prompt.append("a"), prompt.append("b"), return_exceptions=True)
    )
    assert [type(one) for one in ended] == [NotFound, NotFound]


async def test_closing_ends_what_waits() -> None:
    fake = Fake([])
    fake.gate = asyncio.Semaphore(0)
    prompt = fake.prompt()
    edit = asyncio.ensure_future(prompt.append("a"))
    await eventually(lambda: len(fake.asked) == 1)
    fake.gate = None
    await soon(prompt.close())
    assert await outcomes(edit) == ["409"]
    assert fake.asked[-1][0] == "DELETE"


Op = tuple[str, int, int, str]
ops: st.SearchStrategy[Op] = st.tuples(
    st.sampled_from(["append", "append", "replace", "replace", "clear", "commit", "pause"]),
    st.integers(0, 12),
    st.integers(0, 12),
    st.text(st.sampled_from("ab \u00e9\u4e2d\U0001f600"), max_size=9),
)
fates = st.lists(st.sampled_from([TAKEN, TAKEN, UNHEARD, SOON, LATE, LOST]), max_size=25)


@given(st.lists(ops, max_size=30), fates, st.booleans(), st.booleans())
def test_the_clients_text_is_the_servers(
    script: list[Op], fates: list[str], has_foreign: bool, fails: bool
) -> None:
    """Whatever is refused or lost; and an edit is told to be made if, and only if, it is."""

    async def run() -> None:
        fake = Fake(fates, max_chars=12)
        prompt = fake.prompt()
        shadow: list[asyncio.Future[Any]] = []
        for kind, start, end, text in script:
            shadow.append(asyncio.ensure_future(acted(prompt, kind, start, end, text)))
            await asyncio.sleep(0)
            if kind == "pause":
                await soon(asyncio.gather(*shadow, return_exceptions=True))
                if fake.is_answering:
                    fake.answered(has_failed=fails)
                elif has_foreign:
                    fake.document.append("f")
        ended = await soon(asyncio.gather(*shadow, return_exceptions=True))
        assert all(one is None or isinstance(one, HeadstartError | Read) for one in ended)
        fake.come(fake.soon)
        fake.come(fake.late)
        if fake.is_answering:
            fake.answered(has_failed=fails)
        fake.fates = []
        # What is typed next is either about the right text, or refused and the right one known.
        (first,) = await outcomes(prompt.append(""))
        assert first in ("made", "version_conflict", "response_failed")
        assert prompt.text == fake.document.text
        assert prompt.version == fake.document.version
        await soon(prompt.close())

    asyncio.run(run())


async def acted(prompt: AsyncLivePrompt, kind: str, start: int, end: int, text: str) -> object:
    if kind == "append":
        await prompt.append(text)
    elif kind == "replace":
        await prompt.replace(start, end, text)
    elif kind == "clear":
        await prompt.clear()
    elif kind == "commit":
        return await prompt.commit()
    return None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), fates)
def test_what_is_told_of_an_edit_is_so(numbers: list[int], fates: list[str]) -> None:
    """Letters are put before one another; those past the end are refused, with what is behind."""

    async def run() -> None:
        fake = Fake(fates, max_chars=100)
        prompt = fake.prompt()
        letters = [chr(ord("a") + number) for number in range(len(numbers))]
        edits = [prompt.replace(at, at, one) for at, one in zip(numbers, letters, strict=True)]
        ended = await outcomes(*edits)
        made = {one for one, end in zip(letters, ended, strict=True) if end == "made"}
        assert made == set(fake.document.text)
        assert prompt.text == fake.document.text
        refused = [end for end in ended if end != "made"]
        assert refused == [*["out_of_range"][: len(refused)], *["not_made"] * (len(refused) - 1)]
        await soon(prompt.close())

    asyncio.run(run())
