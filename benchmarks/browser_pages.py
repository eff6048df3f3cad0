"""The pages' end of a real link: a Chromium that reads many answers at once, a page for each.

A process of its own, spoken to in lines of JSON. When text was drawn is noted in the pages, and said
by the clock that all processes share.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from headstart.benchmarks.browser_orders import Arm, Ask, Drawn, Open, Shut
from headstart.benchmarks.child import first_line, lines, say
from headstart.benchmarks.chromium import Browser, Page, chromium
from headstart.benchmarks.network_spaces import enter
from headstart.benchmarks.socket_orders import Enter

__all__ = ["serve"]

_WATCH = Path(__file__).with_name("browser_watch.js").read_text(encoding="utf-8")
_WARM_TOKENS_MODEL = "short"
_NUM_CLOCK_TRIES = 5


def serve() -> None:
    """Be the pages' end."""
    order = msgspec.json.decode(first_line(), type=Enter)
    if order.space is not None:
        enter(order.space)
    asyncio.run(_serve())


async def _serve() -> None:
    orders = lines()
    opening = msgspec.json.decode(await anext(orders), type=Open)
    # Only there a page without TLS may open WebTransport sessions.
    origin = opening.url.rstrip("/")
    flags = [f"--unsafely-treat-insecure-origin-as-secure={origin}", *_ALL_AWAKE]
    async with chromium(flags) as browser:
        pages = _Pages(browser)
        say(await pages.open(opening))
        async for line in orders:
            order = msgspec.json.decode(line, type=Open | Shut | Ask)
            if isinstance(order, Open):
                say(await pages.open(order))
            elif isinstance(order, Shut):
                say(await pages.shut(order.arm))
            else:
                say(await pages.ask(order))
        for arm in Arm:
            await pages.shut(arm)


_ALL_AWAKE = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


class _Pages:
    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._open: dict[Arm, tuple[list[Page], AsyncExitStack]] = {}

    async def open(self, order: Open) -> int:
        await self.shut(order.arm)
        stack = AsyncExitStack()
        script = _WATCH.replace("HAS_DATAGRAMS", str(order.arm is Arm.OURS).lower())
        script = script.replace("IS_WATCHED", "true")
        opening = (
            stack.enter_async_context(self._browser.open(order.url, before=script, width=800))
            for _ in range(order.count)
        )
        pages = [await page for page in opening]
        self._open[order.arm] = pages, stack
        for page in pages:
            await page.until("!document.querySelector('#model').disabled")
        if order.is_warm:
            await asyncio.gather(*(_warm(page, order.arm) for page in pages))
        return len(pages)

    async def shut(self, arm: Arm) -> bool:
        if arm in self._open:
            await self._open.pop(arm)[1].aclose()
        return True

    async def ask(self, order: Ask) -> list[Drawn]:
        pages, _ = self._open[order.arm]
        asking = (_ask(page, order, number) for number, page in enumerate(pages))
        return list(await asyncio.gather(*asking))


async def _warm(page: Page, arm: Arm) -> None:
    for _ in range(10):
        await page.run(f"headstartWatch.ask('{_WARM_TOKENS_MODEL}', 'Say anything.')")
        await page.run("headstartWatch.ended")
        if arm is Arm.SSE or (await page.run("headstartWatch.taken()"))["rung"] == "datagrams":
            return


async def _ask(page: Page, order: Ask, number: int) -> Drawn:
    prompt = f"Say number {order.first_prompt + number} in other words."
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
