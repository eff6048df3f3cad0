"""The browser module in a real Chromium: the chunks of the event stream, whatever the path does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headstart.benchmarks.chromium import Browser, Page, PageError, chromium
from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Fallback
from headstart.stages.access import hash_of
from tests.support.events import chunks
from tests.support.gateway import Gateway, serving, speeds
from tests.support.udp_relay import UdpRelay, udp_relay
from tests.support.waiting import PATIENCE_S, eventually, soon

pytestmark = [pytest.mark.anyio, pytest.mark.chromium]

TWO_SECONDS = {"tokens_per_s": 100.0, "answer_tokens": 200}
ENDLESS = {"tokens_per_s": 50.0, "answer_tokens": 100_000}

HARNESS = """
(async () => {
    const { Headstart } = await import("/web/headstart.js");
    const body = { model: "fake", messages: [{ role: "user", content: "Name three colours." }] };
    window.client = new Headstart({ limits: { raceS: 1e6 }, ...OPTIONS });
    window.chunks = [];
    window.failure = window.ended = null;
    window.read = async () => {
        try {
            for await (const chunk of answer) {
                chunks.push(chunk);
                await window.between?.();
            }
        } catch (error) {
            failure = error.name;
        }
        ended = true;
    };
    window.warm = async () => {
        const short = { ...body, max_tokens: 1, stream: true };
        for await (const chunk of await client.chat.completions.create(short));
    };
    window.ask = async () => {
        window.answer = await client.chat.completions.create({ ...body, stream: true });
        read();
        return answer.id;
    };
})()
"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests, each of which has pages and storage of its own."""
    async with chromium() as browser:
        yield browser


@asynccontextmanager
async def module_in(
    browser: Browser,
    fake: dict[str, Any],
    *,
    options: dict[str, Any] | None = None,
    access: AccessSettings | None = None,
    is_warm: bool = True,
    **link: Any,
) -> AsyncIterator[tuple[Gateway, UdpRelay, Page]]:
    """A gateway, and a page whose UDP goes through a relay, with the module and `ask` in it."""
    relay: UdpRelay | None = None

    def offered(offer: dict[str, Any]) -> dict[str, Any]:
        return offer if relay is None else offer | {"url": _with_port(offer["url"], relay.port)}

    async with serving(
        speeds(**fake), quic=QuicSettings(), offered=offered, access=access
    ) as gateway:
        assert gateway.quic is not None
        async with (
            udp_relay(gateway.quic.port, **link) as relay,
            browser.open(f"{gateway.url}/") as page,
        ):
            await page.run(HARNESS.replace("OPTIONS", json.dumps(options or {})))
            if is_warm:  # the session is there before the answer is asked for, however busy it is
                await page.run("warm()")
                endpoint = gateway.quic
                await eventually(lambda: endpoint.num_sessions == 1)
            yield gateway, relay, page


def _with_port(url: str, port: int) -> str:
    host, _, rest = url.removeprefix("https://").partition(":")
    return f"https://{host}:{port}/{rest.partition('/')[2]}"


async def by_datagrams(page: Page) -> None:
    """Wait until the answer comes by nothing else."""
    await page.until("ended || String(answer.rungs) === 'datagrams'")
    assert await page.run("ended") is None, "the answer ended first"


async def the_event_streams(gateway: Gateway, page: Page) -> None:
    """Wait for the answer's end; its chunks are those of its event stream, each once."""
    await page.until("ended")
    assert await page.run("failure") is None
    answer = await page.run("answer.id")
    body = (await soon(gateway.client.get(f"/v1/streams/{answer}"))).content
    assert await page.run("chunks") == chunks(body)


async def test_a_lossy_path_gives_the_event_streams_chunks(browser: Browser) -> None:
    link: dict[str, Any] = {
        "seed": 5,
        "loss": 0.1,
        "duplication": 0.05,
        "delay_s": 0.01,
        "jitter_s": 0.03,
    }
    async with module_in(browser, TWO_SECONDS, **link) as (gateway, relay, page):
        await page.run("ask()")
        await the_event_streams(gateway, page)

        assert await page.run("answer.rungs") == ["datagrams"]
        assert relay.num_lost > 5
        rendered = gateway.exposition().value("headstart_render_gap_seconds_count")
        assert rendered > 0, "no acknowledgement said when its text was handed on"


async def test_where_udp_is_blocked_nothing_is_waited_for(browser: Browser) -> None:
    """The race has no end here, so whatever is shown did not wait for it."""
    async with module_in(browser, TWO_SECONDS, is_warm=False, loss=1.0) as (gateway, relay, page):
        await page.run("ask()")
        await the_event_streams(gateway, page)

        assert relay.num_passed == 0
        assert relay.num_lost > 0


async def test_a_page_that_is_busy_misses_nothing(browser: Browser) -> None:
    """Browsers keep one datagram for a page that does not read: the newest, which says it all."""
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        await page.run(
            """window.between = () => {
                const until = performance.now() + (chunks.length % 40 === 39 ? 300 : 0);
                while (performance.now() < until);
            }"""
        )
        await page.run("ask()")
        await the_event_streams(gateway, page)


async def test_beside_a_path_that_goes_dark_the_event_stream_is_read_until_it_is_light(
    browser: Browser,
) -> None:
    async with module_in(browser, ENDLESS) as (gateway, relay, page):
        await page.run("ask()")
        await by_datagrams(page)
        relay.is_dark = True
        await page.until("answer.rungs.includes('sse')")
        count = await page.run("chunks.length")
        await page.until(f"chunks.length > {count + 20}")
        relay.is_dark = False
        await by_datagrams(page)
        assert gateway.quic is not None
        assert gateway.quic.num_sessions == 1
        await page.run("answer.cancel()")
        await gateway.replica.idle(PATIENCE_S)


async def test_a_session_that_ends_loses_nothing(browser: Browser) -> None:
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        await page.run("ask()")
        await by_datagrams(page)
        assert gateway.quic is not None
        for session in list(gateway.quic._sessions):
            session.carrier.close()
        await the_event_streams(gateway, page)


async def test_without_datagrams_the_session_brings_the_log_by_a_stream(browser: Browser) -> None:
    async with module_in(browser, ENDLESS) as (gateway, _relay, page):
        await page.run("ask()")
        await by_datagrams(page)
        assert gateway.quic is not None
        for session in list(gateway.quic._sessions):
            session.broken(Fallback.HEAVY_LOSS)
        await page.until("String(answer.rungs) === 'stream'")
        count = await page.run("chunks.length")
        await page.until(f"chunks.length > {count + 20}")
        await page.run("answer.cancel()")


async def test_another_network_gets_another_session(browser: Browser) -> None:
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        await page.run("ask()")
        await by_datagrams(page)
        assert gateway.quic is not None
        before = set(gateway.quic._sessions)
        await page.run("void dispatchEvent(new Event('online'))")
        await the_event_streams(gateway, page)
        await eventually(lambda: not before & gateway.quic._sessions)  # type: ignore[union-attr]


async def test_timers_as_slow_as_a_hidden_tabs_hold_no_answer_up(browser: Browser) -> None:
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        await page.run(
            """{ const wait = setTimeout;
            window.setTimeout = (work, ms) => wait(work, Math.max(1000, ms)); }"""
        )
        await page.run("ask()")
        await the_event_streams(gateway, page)
        assert await page.run("answer.rungs") == ["datagrams"]
        acks = gateway.exposition().value("headstart_render_gap_seconds_count")
        assert acks > 50, "acknowledgements waited for timers"


async def test_a_tab_that_was_frozen_goes_on_where_it_was(browser: Browser) -> None:
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        answer = await page.run("ask()")
        await by_datagrams(page)
        await page.call("Page.setWebLifecycleState", state="frozen")
        await soon(gateway.streams.get(answer).finished())
        assert await page.run("ended") is None
        await page.call("Page.setWebLifecycleState", state="active")
        await the_event_streams(gateway, page)


@pytest.mark.parametrize("leave", ["answer.cancel()", "answer.close()", "client.close()"])
async def test_leaving_an_answer_stops_the_engine(browser: Browser, leave: str) -> None:
    async with module_in(browser, ENDLESS) as (gateway, _relay, page):
        await page.run("ask()")
        await by_datagrams(page)
        await page.run(leave)
        await page.until("ended")
        assert await page.run("failure") is None
        await gateway.replica.idle(PATIENCE_S)


async def test_somebody_elses_cancelling_is_an_error(browser: Browser) -> None:
    async with module_in(browser, ENDLESS) as (gateway, _relay, page):
        answer = await page.run("ask()")
        await by_datagrams(page)
        await soon(gateway.client.delete(f"/v1/streams/{answer}"))
        await page.until("ended")
        assert await page.run("failure") == "Cancelled"


async def test_another_reader_goes_on_from_a_position(browser: Browser) -> None:
    async with module_in(browser, TWO_SECONDS) as (gateway, _relay, page):
        await page.run("ask()")
        await page.until("chunks.length > 30")
        await page.run("answer.leave()")
        await page.until("ended")
        await page.run("ended = null; window.answer = client.resume(answer.position); void read()")
        await the_event_streams(gateway, page)


async def test_keys_are_asked_for_over_quic_too(browser: Browser) -> None:
    access = AccessSettings(keys=(KeySettings(id="alice", hash=hash_of("hs-alice")),))
    options = {"apiKey": "hs-alice"}
    async with module_in(browser, TWO_SECONDS, options=options, access=access) as (
        gateway,
        _relay,
        page,
    ):
        await page.run("ask()")
        await by_datagrams(page)
        gateway.client.headers["authorization"] = "Bearer hs-alice"
        await the_event_streams(gateway, page)

    async with module_in(browser, TWO_SECONDS, access=access, is_warm=False) as (
        _gateway,
        _relay,
        page,
    ):
        with pytest.raises(PageError, match="Unauthenticated: no API key"):
            await page.run("ask()")


async def test_answers_leave_nothing_behind(browser: Browser) -> None:
    """A tab that stays open: sessions, streams and memory are those of a few answers."""
    quick = {"tokens_per_s": 4000.0, "answer_tokens": 40}
    async with module_in(browser, quick) as (gateway, _relay, page):

        async def heap_after(count: int) -> int:
            for _ in range(count):
                await page.run("(async () => { await ask(); chunks.length = 0; })()")
                await page.until("ended")
                await page.run("ended = null; chunks.length = 0")
            await page.call("HeapProfiler.collectGarbage")
            used: int = (await page.call("Runtime.getHeapUsage"))["usedSize"]
            return used

        await heap_after(50)
        before = await heap_after(50)
        after = await heap_after(100)

        assert after - before < 100 * 5000, "five kilobytes an answer are left behind"
        assert gateway.quic is not None
        assert gateway.quic.num_sessions == 1
        (session,) = gateway.quic._sessions
        await eventually(lambda: not session._readers)
