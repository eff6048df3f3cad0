"""A real Chromium without a window, driven over the DevTools protocol through a pipe.

    async with chromium() as browser:
        async with browser.open("http://127.0.0.1:8000/") as page:
            assert await page.run("document.title") == "Headstart"

No port and no package: the protocol is JSON, and the browser ends when its pipe does. Tests drive
it too.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from headstart.stages.errors import SetupError

__all__ = ["Browser", "Page", "PageError", "chromium", "program"]

Result = TypeVar("Result")

PATIENCE_S = 120.0
"""Far more than anything takes that a browser is asked."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-sandbox",  # root has none, and every page here is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--password-store=basic",
    "--use-mock-keychain",
)


class PageError(AssertionError):
    """What ran in a page threw."""


class Browser:
    """One running browser."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    @asynccontextmanager
    async def open(
        self, url: str, *, before: str | None = None, **device: Any
    ) -> AsyncIterator["Page"]:
        """Open a page with storage and connections of its own, and wait until it is loaded.

        Args:
            before: A script that each of its documents runs before its own.
            device: Overrides its size, as `Emulation.setDeviceMetricsOverride` takes it.
        """
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        made = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        if device:
            size = {"width": 800, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await page.call("Emulation.setDeviceMetricsOverride", **size | device)
        if before is not None:
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        await page.goto(url)
        try:
            yield page
        finally:
            del self._pages[attached["sessionId"]]
            await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Ask for something and return the answer.

        Raises:
            PageError: It was refused, or the browser has ended.
        """
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        return await _soon(answer)

    async def listen(self) -> None:
        """Take what the browser says, until it ends."""
        while data := await _until_zero(self._reader):
            message = json.loads(data)
            if "id" not in message:
                page = self._pages.get(message.get("sessionId", ""))
                if page is not None:
                    page.happened(message["method"], message["params"])
            elif not (answer := self._asked.pop(message["id"])).done():
                if "error" in message:
                    answer.set_exception(PageError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(PageError("the browser has ended"))


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._loaded = asyncio.Event()
        self._idled = asyncio.Event()
        self.complaints: list[str] = []
        """Exceptions nobody caught, and what the console shows as an error."""
        self.requests: list[str] = []
        """Addresses that were asked for."""

    async def call(self, method: str, **params: Any) -> Any:
        """Ask this page for something of the protocol's."""
        return await self._browser.call(method, self._session, **params)

    async def goto(self, url: str) -> None:
        """Load an address."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await _soon(self._loaded.wait())

    async def reload(self) -> None:
        """Load it again."""
        self._loaded.clear()
        await self.call("Page.reload")
        await _soon(self._loaded.wait())

    async def run(self, expression: str) -> Any:
        """Evaluate an expression, await it if it is a promise, and return its value.

        Raises:
            PageError: It threw.
        """
        found = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            thrown = details.get("exception", {})
            raise PageError(thrown.get("description") or details["text"])
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not await self.run(condition):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"still not: {condition}; complaints: {self.complaints}")
            await asyncio.sleep(0.02)

    async def idle(self, seconds: float) -> None:
        """Let its clock run on by so much at once, timers included; it is not turned back."""
        self._idled.clear()
        await self.call("Emulation.setVirtualTimePolicy", policy="advance", budget=1e3 * seconds)
        await _soon(self._idled.wait())

    async def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        typed: dict[str, Any] = {"key": key, "code": key, "text": text}
        if key == "Enter":
            typed |= {"windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    async def type(self, text: str) -> None:
        """Enter text where the focus is."""
        await self.call("Input.insertText", text=text)

    def happened(self, method: str, params: Any) -> None:
        """Take note of an event."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Emulation.virtualTimeBudgetExpired":
            self._idled.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            thrown = details.get("exception", {})
            self.complaints.append(thrown.get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(str([arg.get("value") for arg in params["args"]]))


def program() -> str | None:
    """Where the browser is; None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@asynccontextmanager
async def chromium(flags: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """Run a browser.

    Raises:
        SetupError: There is none.
    """
    executable = program()
    if executable is None:
        raise SetupError("chromium is not installed: apt-get install chromium")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        to_browser, from_us = os.pipe()
        to_us, from_browser = os.pipe()
        # Its ends are file descriptors 3 and 4, by these numbers.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script, "bash", executable, *_FLAGS, *flags),
            *(f"--user-data-dir={profile}", "about:blank"),
            pass_fds=(to_browser, from_browser),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        reader, writer = await _joined(to_us, from_us)
        browser = Browser(reader, writer)
        listening = asyncio.ensure_future(browser.listen())
        try:
            await browser.call("Browser.getVersion")
            yield browser
        finally:
            writer.close()
            with suppress(TimeoutError):
                await _soon(process.wait(), 10.0)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
            await asyncio.gather(listening, return_exceptions=True)


async def _soon(work: Awaitable[Result], within_s: float = PATIENCE_S) -> Result:
    async with asyncio.timeout(within_s):
        return await work


async def _joined(reads: int, writes: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reads))
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(writes, "wb")
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def _until_zero(reader: asyncio.StreamReader) -> bytes:
    """The next message; nothing at the end."""
    try:
        return (await reader.readuntil(b"\0"))[:-1]
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
