"""The pages' end of a real link: a Chromium that reads many answers at once, a page for each.

A process of its own, spoken to in lines of JSON. When text was drawn is noted in the pages, and
said by the clock that all processes share.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headstart.benchmarks.browser_orders import (
    Arm,
    Ask,
    Cost,
    Drawn,
    Heap,
    Launch,
    Open,
    Shut,
    Stay,
    Weigh,
)
from headstart.benchmarks.child import first_line, lines, say
from headstart.benchmarks.chromium import Browser, Page, chromium
from headstart.benchmarks.network_spaces import enter
from headstart.benchmarks.socket_orders import Enter

__all__ = ["serve"]

_WATCH = Path(__file__).with_name("browser_watch.js").read_text(encoding="utf-8")
_NUM_CLOCK_TRIES = 5
_MOST_WARMING = 10
_RENEW_EACH = 20
"""Answers after which a page that stays open is told that the network has changed."""
_NETWORK_CHANGES = "void setTimeout(() => dispatchEvent(new Event('online')), 100)"
"""In the middle of the answer that was just asked for."""
_ALL_AWAKE = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


def serve() -> None:
    """Be the pages' end."""
    order = msgspec.json.decode(first_line(), type=Enter)
    if order.space is not None:
        enter(order.space)
    asyncio.run(_serve())


async def _serve() -> None:
    orders = lines()
    # Only there a page without TLS may open WebTransport sessions.
    origin = msgspec.json.decode(await anext(orders), type=Launch).origin
    flags = [f"--unsafely-treat-insecure-origin-as-secure={origin}", *_ALL_AWAKE]
    async with chromium(flags) as browser:
        pages = _Pages(browser)
        version = await browser.call("Browser.getVersion")
        say(version["product"])
        async for line in orders:
            order = msgspec.json.decode(line, type=Open | Shut | Ask | Weigh | Stay)
            if isinstance(order, Open):
                say(await pages.open(order))
            elif isinstance(order, Shut):
                say(await pages.shut(order.arm))
            elif isinstance(order, Ask):
                say(await pages.ask(order))
            elif isinstance(order, Weigh):
                say(await _weigh(browser, order))
            else:
                say(await _stay(browser, order))
        for arm in Arm:
            await pages.shut(arm)


class _Pages:
    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._open: dict[Arm, tuple[list[Page], AsyncExitStack]] = {}

    async def open(self, order: Open) -> int:
        await self.shut(order.arm)
        stack = AsyncExitStack()
        opening = (_open(self._browser, order.arm, order.url) for _ in range(order.count))
        pages = [await stack.enter_async_context(page) for page in opening]
        self._open[order.arm] = pages, stack
        if order.warm_model is not None:
            warming = (_warm(page, order.arm, order.warm_model) for page in pages)
            await asyncio.gather(*warming)
        return len(pages)

    async def shut(self, arm: Arm) -> bool:
        if arm in self._open:
            await self._open.pop(arm)[1].aclose()
        return True

    async def ask(self, order: Ask) -> list[Drawn]:
        pages, _ = self._open[order.arm]
        asking = (_ask(page, order, number) for number, page in enumerate(pages))
        return list(await asyncio.gather(*asking))


@asynccontextmanager
async def _open(
    browser: Browser, arm: Arm, url: str, *, has_frames: bool = True
) -> AsyncIterator[Page]:
    script = _WATCH.replace("HAS_DATAGRAMS", str(arm is Arm.OURS).lower())
    script = script.replace("HAS_FRAMES", str(has_frames).lower())
    async with browser.open(url, before=script, width=800) as page:
        await page.until("!document.querySelector('#model').disabled")
        yield page


async def _warm(page: Page, arm: Arm, model: str) -> None:
    """Until a session is there: a busy machine may lose the race of the first answers."""
    for _ in range(_MOST_WARMING):
        await page.run(f"headstartWatch.ask('{model}', 'Say anything.')")
        await page.run("headstartWatch.ended")
        if arm is Arm.SSE or (await page.run("headstartWatch.taken()"))["rung"] == "datagrams":
            return


async def _ask(page: Page, order: Ask, number: int) -> Drawn:
    prompt = f"Say number {order.first_prompt + number} in other words."
    if order.is_typed:
        await page.run(f"headstartWatch.type('{prompt}')")
    await asyncio.sleep(max(0.0, order.at - time.monotonic()))
    await page.run(f"headstartWatch.ask('{order.model}', '{prompt}')")
    for after_s in order.reload_after_s:
        await asyncio.sleep(max(0.0, order.at + after_s - time.monotonic()))
        await page.reload()
    try:
        async with asyncio.timeout(order.at + order.patience_s - time.monotonic()):
            is_done = bool(await page.run("headstartWatch.ended"))
    except TimeoutError:
        is_done = False
    found = await page.run("headstartWatch.taken()")
    if not is_done:
        await page.run("document.querySelector('#stop').click()")
        await page.run("headstartWatch.ended")
    return _drawn(found, await _zero(page), is_done=is_done)


def _drawn(found: dict[str, Any], zero: float, *, is_done: bool) -> Drawn:
    def at(page_ms: float | None) -> float | None:
        return None if page_ms is None else zero + page_ms / 1e3

    return Drawn(
        found["id"] or "",
        at(found["askedAt"]) or 0.0,
        [zero + each / 1e3 for each in found["at"]],
        found["lengths"],
        at(found["climbedAt"]),
        found["text"],
        is_done,
        found["rung"],
        max(found["frames"], default=0.0) / 1e3,
    )


async def _zero(page: Page) -> float:
    """The page's zero on the monotonic clock: from the quickest of some questions."""
    found: list[tuple[float, float]] = []
    for _ in range(_NUM_CLOCK_TRIES):
        asked = time.monotonic()
        page_s = await page.run("performance.now()") / 1e3
        took_s = time.monotonic() - asked
        found.append((took_s, asked + took_s / 2 - page_s))
    return min(found)[1]


async def _weigh(browser: Browser, order: Weigh) -> list[Cost]:
    costs: list[Cost] = []
    async with _open(browser, order.arm, order.url, has_frames=False) as page:
        for watching in ("Network", "Log"):  # the page would pay for what it tells us
            await page.call(f"{watching}.disable")
        await page.call("Performance.enable", timeDomain="threadTicks")
        await _warm(page, order.arm, order.model)
        for number in range(order.num_answers):
            before = await _metrics(page)
            await page.run(f"headstartWatch.ask('{order.model}', 'Say number {number} again.')")
            await page.run("headstartWatch.ended")
            after = await _metrics(page)
            spent = {name: after[name] - before[name] for name in after}
            layout_s = spent["LayoutDuration"] + spent["RecalcStyleDuration"]
            num_frames = int(await page.run("headstartWatch.numDrawn"))
            costs.append(Cost(num_frames, spent["TaskDuration"], spent["ScriptDuration"], layout_s))
    return costs


async def _stay(browser: Browser, order: Stay) -> list[Heap]:
    async with _open(browser, order.arm, order.url, has_frames=False) as page:
        await page.call("Performance.enable")
        found: list[Heap] = []
        for number in range(1, order.num_answers + 1):
            await page.run(f"headstartWatch.ask('{order.model}', 'Say number {number} again.')")
            if number % _RENEW_EACH == 0:
                await page.run(_NETWORK_CHANGES)
            await page.run("headstartWatch.ended")
            if number % (order.num_answers // order.num_samples) == 0:
                found.append(await _heap(page, number))
        await page.idle(order.idle_s)
        found.append(await _heap(page, order.num_answers, is_after_idling=True))
        return found


async def _heap(page: Page, num_answers: int, *, is_after_idling: bool = False) -> Heap:
    for _ in range(2):  # what is finalised the first time goes the second
        await page.call("HeapProfiler.collectGarbage")
    found = await _metrics(page)
    size, nodes, listeners = (
        int(found[name]) for name in ("JSHeapUsedSize", "Nodes", "JSEventListeners")
    )
    return Heap(num_answers, size, nodes, listeners, is_after_idling)


async def _metrics(page: Page) -> dict[str, float]:
    found = (await page.call("Performance.getMetrics"))["metrics"]
    return {each["name"]: each["value"] for each in found}
