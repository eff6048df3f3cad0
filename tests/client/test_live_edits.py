"""Edits of a live prompt whose requests are refused or lost: the client knows what there is."""

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.client import AsyncLivePrompt
from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import (
    BadRequest,
    EngineUnavailable,
    HeadstartError,
    LiveRefused,
    NotFound,
)
from tests.client.lossy_session import (
    AT_ONCE,
    LATE,
    LOST,
    SOON,
    TAKEN,
    UNHEARD,
    Fake,
    Read,
    outcomes,
)
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


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
