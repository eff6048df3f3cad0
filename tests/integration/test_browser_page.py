"""The chat page at `/` in a real Chromium, used as a person would."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headstart.benchmarks.chromium import Browser, Page, chromium
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.serving import QuicSettings
from headstart.stages.access import hash_of
from tests.support.events import text
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import PATIENCE_S, eventually, soon

pytestmark = [pytest.mark.anyio, pytest.mark.chromium]

SLOW: dict[str, Any] = {"tokens_per_s": 50.0, "answer_tokens": 150}
ENDLESS: dict[str, Any] = {"tokens_per_s": 50.0, "answer_tokens": 100_000}
TEXT = "document.querySelector('#messages li:last-child .content').textContent"
IS_DONE = "document.querySelector('#stop').hidden"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests, each of which has pages and storage of its own."""
    async with chromium() as browser:
        yield browser


@asynccontextmanager
async def opened(
    browser: Browser, fake: dict[str, Any], **options: Any
) -> AsyncIterator[tuple[Gateway, Page]]:
    """A gateway and its page, ready to be typed into; complaints of the page fail the test."""
    async with (
        serving(speeds(**fake), quic=QuicSettings(), **options) as gateway,
        browser.open(f"{gateway.url}/") as page,
    ):
        if "access" not in options:
            await page.until("!document.querySelector('#model').disabled")
        yield gateway, page
        assert page.complaints == []


async def ask(page: Page, prompt: str) -> None:
    await page.run("document.querySelector('#prompt').focus()")
    await page.type(prompt)
    await page.press("Enter")


async def the_answers_text(gateway: Gateway) -> str:
    """What the last request's answer says."""
    stream = gateway.replica.requests[-1].stream_id
    body = (await soon(gateway.client.get(f"/v1/streams/{stream}"))).content
    return text(body)


def asked(gateway: Gateway) -> int:
    """How many answers have been asked for."""
    return [one.method for one in gateway.replica.requests].count("POST")


async def test_answer_streams_by_datagrams(browser: Browser) -> None:
    async with opened(browser, {"tokens_per_s": 100.0, "answer_tokens": 60}) as (gateway, page):
        # A busy machine may lose the race of one answer; the next one finds the session open.
        for _ in range(10):
            await ask(page, "Name three colours.")
            await page.until(f"{TEXT}.length > 0 && {IS_DONE}")
            if await page.run("document.querySelector('#rung').dataset.rung") == "datagrams":
                break
        assert await page.run("document.querySelector('#rung').textContent") == "datagrams"
        assert "longest gap" in await page.run("document.querySelector('#figures').textContent")
        assert await page.run(TEXT) == await the_answers_text(gateway)
        assert {url.partition("/web/")[0] for url in page.requests if "/v1/" not in url} <= {
            gateway.url,
            f"{gateway.url}/",
            "data:,",
            f"{gateway.url}/healthz",
        }
        # The event stream was left and its connection with it: the next question has another.
        assert f"{gateway.url}/healthz" in page.requests


async def test_what_is_typed_is_shown_and_not_obeyed(browser: Browser) -> None:
    prompt = '<img src=x onerror=alert(1)><script>alert(2)</script> & "done"'
    async with opened(browser, SLOW) as (_gateway, page):
        await ask(page, prompt)
        await page.until(f"document.querySelectorAll('#messages li').length == 2 && {IS_DONE}")
        shown = await page.run("document.querySelector('#messages li.user').textContent")
        assert shown == prompt
        assert await page.run("document.querySelectorAll('#messages :is(img, script)').length") == 0


async def test_reload_loses_and_repeats_no_character(browser: Browser) -> None:
    async with opened(browser, SLOW) as (gateway, page):
        await ask(page, "Name three colours.")
        for count in (60, 200, 350):
            await page.until(f"{TEXT}.length > {count}")
            await page.reload()
        await page.until(f"document.querySelectorAll('#messages li').length == 2 && {IS_DONE}")
        assert await page.run(TEXT) == await the_answers_text(gateway)
        assert asked(gateway) == 1

        await page.reload()
        await page.until("document.querySelectorAll('#messages li').length == 2")
        assert await page.run(TEXT) == await the_answers_text(gateway)


async def test_a_page_left_before_anything_answered_asks_again(browser: Browser) -> None:
    async with opened(browser, SLOW) as (gateway, page):
        await page.run("globalThis.fetch = () => new Promise(() => {})")
        await ask(page, "Name three colours.")
        await page.until("document.querySelectorAll('#messages li').length == 2")
        assert asked(gateway) == 0

        await page.reload()
        await page.until("document.querySelectorAll('#messages li').length == 2")
        await page.until(f"{TEXT}.length > 200")
        await page.until(IS_DONE)
        prompt = "document.querySelector('#messages li.user').textContent"
        assert await page.run(prompt) == "Name three colours."
        assert await page.run(TEXT) == await the_answers_text(gateway)
        assert asked(gateway) == 1

        await page.reload()  # and an answer that is there is not asked for again
        await page.until("!document.querySelector('#model').disabled")
        assert asked(gateway) == 1


@pytest.mark.parametrize("way", ["button", "Escape"])
async def test_stopping_stops_the_engine(browser: Browser, way: str) -> None:
    async with opened(browser, ENDLESS) as (gateway, page):
        await ask(page, "Name three colours.")
        await page.until(f"{TEXT}.length > 20")
        if way == "button":
            await page.run("document.querySelector('#stop').click()")
        else:
            await page.press("Escape")
        await gateway.replica.idle(PATIENCE_S)
        await page.until(IS_DONE)
        end = "document.querySelector('#messages li:last-child .end').textContent"
        assert await page.run(end) == "Stopped."
        # And the page goes on from there.
        await ask(page, "Go on.")
        await page.until("document.querySelectorAll('#messages li').length == 4")
        await page.until(f"{TEXT}.length > 20")
        await page.press("Escape")
        await gateway.replica.idle(PATIENCE_S)


async def test_what_nobody_has_answered_yet_can_be_stopped(browser: Browser) -> None:
    async with opened(browser, SLOW) as (gateway, page):
        await page.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/chat/*"}])
        await ask(page, "Name three colours.")
        await page.until("!document.querySelector('#stop').hidden")
        await page.press("Escape")
        await page.until(IS_DONE)
        assert await page.run("document.querySelector('#prompt').value") == "Name three colours."
        assert await page.run("document.querySelectorAll('#messages li').length") == 0
        assert await page.run("document.querySelector('#notice').hidden")
        assert await page.run("document.querySelector('#rung').textContent") == "idle"
        await page.call("Fetch.disable")
        await page.press("Enter")
        await page.until(f"{TEXT}.length > 20")
        assert [one.method for one in gateway.replica.requests].count("POST") == 1


async def test_who_stops_with_the_keyboard_is_back_at_the_prompt(browser: Browser) -> None:
    async with opened(browser, ENDLESS) as (_gateway, page):
        await ask(page, "Name three colours.")
        await page.until(f"{TEXT}.length > 20")
        await page.run("document.querySelector('#stop').focus({ focusVisible: true })")
        await page.press("Enter")
        await page.until(IS_DONE)
        assert await page.run("document.activeElement.id") == "prompt"


async def test_a_page_that_found_nobody_asks_again(browser: Browser) -> None:
    async with opened(browser, SLOW) as (_gateway, page):
        for again in ("dispatchEvent(new Event('online'))", "composer.requestSubmit()"):
            await page.call("Network.setBlockedURLs", urls=["*/v1/models"])
            await page.reload()
            await page.until("!document.querySelector('#notice').hidden")
            assert await page.run("document.querySelector('#model').disabled")
            await page.call("Network.setBlockedURLs", urls=[])
            await page.run(f"void {again}")
            await page.until("!document.querySelector('#model').disabled")
            assert await page.run("document.querySelector('#notice').hidden")
        page.complaints = [one for one in page.complaints if "/v1/models" not in one]


async def test_an_answer_that_breaks_says_so_and_keeps_what_has_come(browser: Browser) -> None:
    async with opened(browser, ENDLESS) as (gateway, page):
        await ask(page, "Name three colours.")
        await page.until(f"{TEXT}.length > 20")
        await soon(gateway.client.delete(f"/v1/streams/{gateway.live.id}"))
        await page.until(IS_DONE)
        end = "document.querySelector('#messages li:last-child .end').textContent"
        for _ in range(2):
            assert (await page.run(end)).startswith("Broken off: ")
            assert len(await page.run(TEXT)) > 20
            await page.reload()
            await page.until("document.querySelectorAll('#messages li').length == 2")


async def test_a_pause_is_told_while_it_lasts(browser: Browser) -> None:
    async with opened(browser, {"tokens_per_s": 0.1, "answer_tokens": 3}) as (_gateway, page):
        await ask(page, "Name three colours.")
        figures = "document.querySelector('#figures').textContent"
        await page.until(
            f"/first text .* longest gap [1-9][0-9]{{3}} ms · 1 pause$/.test({figures})"
        )
        assert len((await page.run(TEXT)).split()) == 1
        await page.press("Escape")


async def test_who_reads_further_up_is_left_there_and_who_is_at_the_end_is_taken_along(
    browser: Browser,
) -> None:
    scroller = "document.querySelector('#scroller')"
    rest = f"{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight"
    async with opened(browser, ENDLESS | {"tokens_per_s": 400.0}) as (_gateway, page):
        await ask(page, "Name three colours.")
        await page.until(f"{scroller}.scrollTop > 200")
        assert await page.run(rest) < 48
        await page.run(f"{scroller}.scrollTop = 0")
        count = await page.run(f"{TEXT}.length")
        await page.until(f"{TEXT}.length > {count + 500}")
        assert await page.run(f"{scroller}.scrollTop") == 0
        await page.run(f"{scroller}.scrollTop = {scroller}.scrollHeight")
        count = await page.run(f"{TEXT}.length")
        await page.until(f"{TEXT}.length > {count + 500}")
        assert await page.run(rest) < 48
        await page.press("Escape")


async def test_with_keys_the_page_asks_for_one_and_keeps_it_for_the_tab(browser: Browser) -> None:
    access = AccessSettings(keys=(KeySettings(id="alice", hash=hash_of("hs-alice")),))
    async with opened(browser, SLOW, access=access) as (gateway, page):
        await page.until("!document.querySelector('#key-field').hidden")
        assert "no API key" in await page.run("document.querySelector('#notice').textContent")
        await page.run("document.querySelector('#key').focus()")
        await page.type("hs-alice")
        await page.press("Enter")
        await page.run("document.querySelector('#key').blur()")
        await page.until("!document.querySelector('#model').disabled")
        await ask(page, "Name three colours.")
        await page.until(f"{TEXT}.length > 20")
        await page.reload()
        await page.until(f"document.querySelectorAll('#messages li').length == 2 && {IS_DONE}")
        gateway.client.headers["authorization"] = "Bearer hs-alice"
        assert await page.run(TEXT) == await the_answers_text(gateway)
        assert await page.run("localStorage.length") == 0
        page.complaints = [one for one in page.complaints if "401" not in one]


async def test_a_refused_prompt_goes_back_to_be_mended(browser: Browser) -> None:
    async with opened(browser, SLOW) as (gateway, page):
        await gateway.replica.die()
        await ask(page, "Name three colours.")
        await page.until("!document.querySelector('#notice').hidden")
        assert await page.run("document.querySelector('#prompt').value") == "Name three colours."
        assert await page.run("document.querySelectorAll('#messages li').length") == 0
        page.complaints = [one for one in page.complaints if "503" not in one]


async def test_page_fits_a_narrow_screen(browser: Browser) -> None:
    async with (
        serving(speeds(**SLOW)) as gateway,
        browser.open(f"{gateway.url}/", width=320, height=560, mobile=True) as page,
    ):
        await page.until("!document.querySelector('#model').disabled")
        await ask(page, "A" * 400)
        await page.until(f"{TEXT}.length > 20")
        assert await page.run("document.documentElement.scrollWidth") <= 320
        assert await page.run("document.querySelector('#scroller').scrollWidth") <= 320


async def test_what_is_typed_live_is_computed_by_the_time_it_is_sent(browser: Browser) -> None:
    fake = {"prefill_tokens_per_s": 1000.0, "tokens_per_s": 200.0, "answer_tokens": 20}
    words = [f"word{number} " for number in range(120)]
    async with opened(browser, fake) as (gateway, page):
        await page.run("document.querySelector('#prompt').focus()")
        await page.type("typed before ")
        assert len(gateway.live_prompts) == 0  # nothing leaves the page unasked
        await page.run("document.querySelector('#live').click()")
        await page.run("document.querySelector('#prompt').focus()")
        for word in words:
            await page.type(word)
        await page.until("/^(9[6-9]|1..) of/.test(document.querySelector('#computed').textContent)")
        assert len(gateway.live_prompts) == 1
        await page.type("and a wrong")
        await page.run(
            "{ const box = document.querySelector('#prompt'), { length } = box.value;"
            "box.setRangeText('', length - 5, length, 'end');"
            "box.dispatchEvent(new Event('input')) }"
        )
        await ask(page, "right end")
        await page.until(f"{TEXT}.length > 0 && {IS_DONE}")

        prompt = "typed before " + "".join(words) + "and a right end"
        (request,) = (one for one in gateway.replica.requests if one.method == "POST")
        assert json.loads(request.body)["messages"] == [{"role": "user", "content": prompt}]
        answer = await the_answers_text(gateway)
        assert await page.run(TEXT) == answer

        await ask(page, "And then?")
        await page.until(f"document.querySelectorAll('#messages li').length == 4 && {IS_DONE}")
        messages = json.loads(gateway.replica.requests[-1].body)["messages"]
        assert [one["content"] for one in messages] == [prompt, answer, "And then?"]
        assert await page.run(TEXT) == await the_answers_text(gateway)
        # Without it the conversation goes on in plain requests, and the gateway forgets.
        await page.run("document.querySelector('#live').click()")
        await eventually(lambda: len(gateway.live_prompts) == 0)
        await ask(page, "Go on.")
        await page.until(f"document.querySelectorAll('#messages li').length == 6 && {IS_DONE}")
        messages = json.loads(gateway.replica.requests[-1].body)["messages"]
        assert [one["content"] for one in messages[-1:]] == ["Go on."]
        assert len(messages) == 5


async def test_a_key_that_may_not_type_live_is_told_and_asks_as_ever(browser: Browser) -> None:
    access = AccessSettings(keys=(KeySettings(id="alice", hash=hash_of("hs-alice")),))
    async with opened(browser, SLOW, access=access) as (_gateway, page):
        await page.until("!document.querySelector('#key-field').hidden")
        await page.run("document.querySelector('#key').focus()")
        await page.type("hs-alice")
        await page.run("document.querySelector('#key').blur()")
        await page.until("!document.querySelector('#model').disabled")
        await page.run("document.querySelector('#live').click()")
        await ask(page, "Name three colours.")
        await page.until(f"{TEXT}.length > 20")
        assert not await page.run("document.querySelector('#live').checked")
        assert "live" in await page.run("document.querySelector('#notice').textContent")
        page.complaints = [one for one in page.complaints if "401" not in one and "403" not in one]
