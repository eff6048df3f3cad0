"""A live prompt is sent off once, whatever is lost, and no edit is left in doubt."""

import asyncio
import sys
from typing import Any

import httpx
import pytest

from headstart.client import AsyncLivePrompt, live
from headstart.stages.errors import (
    Cancelled,
    EngineUnavailable,
    LiveRefused,
)
from tests.client.lossy_session import (
    AT_ONCE,
    LOST,
    TAKEN,
    UNHEARD,
    Fake,
    outcomes,
)
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


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
