"""A prompt that is sent as it is typed, so that it is computed by the time it is sent off."""

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Any, Self

import httpx
from openai.types.chat import ChatCompletionChunk

from headstart.client.answer import AsyncAnswer
from headstart.client.errors import is_lost
from headstart.client.live_state import Computed, ComputedAhead, LiveState, Reasoning
from headstart.client.live_text import Known, LiveText, Waiting
from headstart.client.live_wire import encodable, session_of, state_in
from headstart.client.patience import Patience
from headstart.stages.carrier_ladder import LadderLimits
from headstart.stages.errors import (
    Cancelled,
    HeadstartError,
    LiveConflict,
    ProtocolViolation,
)

__all__ = ["Ask", "AsyncLivePrompt"]

_COMMITTING_S = 0.1
"""Between looks at a commit that waits for a thought, and whose response is lost."""

Ask = Callable[[str, str, dict[str, Any]], Awaitable[httpx.Response]]
"""Sends a request: method, path, body."""


class AsyncLivePrompt:
    """One prompt, and the conversation that it becomes; made by `AsyncClient.live`.

        async with await client.live(model="tiny", instructions="Be brief.") as prompt:
            await prompt.append("What is the capital of ")
            await prompt.append("France?")
            async for chunk in await prompt.commit():
                print(chunk.choices[0].delta.content or "", end="")

    Edits may be made one after another without waiting: those that are made while others are under
    way go together. Positions count code points. Each edit says by itself how it ended. If one is
    refused, those that were made behind it before that was known are refused with `not_made`, and
    `text` is what the gateway has. A request whose response is lost is sent again once the gateway
    has said what it has, for `limits.resume_s`. An edit whose caller waits no longer is made
    nevertheless.

    Args:
        ask: Sends a request.
        read: Reads the answer that a response begins.
        begun: What the server said of the new session.
        limits: How patient to be with a gateway that cannot be reached.
        have_spare: Called before edits are sent, for a connection that is not theirs to be ready:
            a commit takes along what is under way and does not wait for it.
    """

    def __init__(
        self,
        ask: Ask,
        read: Callable[[httpx.Response], AsyncAnswer[ChatCompletionChunk]],
        begun: httpx.Response,
        limits: LadderLimits | None = None,
        have_spare: Callable[[], None] = lambda: None,
    ) -> None:
        self._ask = ask
        self._read = read
        self._have_spare = have_spare
        self._limits = limits or LadderLimits()
        state = state_in(begun)
        self._id = state.id
        self._path = f"/v1/live/{state.id}"
        self._text = LiveText(state.version)
        self._answer_id = ""
        """Of the latest answer."""
        self._pumping: asyncio.Task[None] | None = None
        """Sends what waits."""
        self._overtaken: set[asyncio.Task[None]] = set()
        """Sent what a commit has taken along since."""
        self._num_cancelled = 0
        """Answers, and commits that waited for a thought."""
        self._updating = asyncio.Lock()
        self._patience = Patience(self._limits)
        """With the edits that are sent now."""

    @property
    def id(self) -> str:
        """The gateway's id of the session; not a credential."""
        return self._id

    @property
    def version(self) -> int:
        """Edits that the server is known to have."""
        return self._text.version

    @property
    def text(self) -> str:
        """What is typed; after a refusal, what the gateway has."""
        return self._text.text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def append(self, text: str) -> None:
        """Add text at the end.

        Raises:
            LiveRefused: It is refused; `code` says why.
            HeadstartError: The session is gone, or nobody answers: whether it is made is asked
                before the next edit, which is refused if it is about another text therefore.
        """
        await self._edit({"type": "input_text.append", "text": encodable(text)})

    async def replace(self, start: int, end: int, text: str) -> None:
        """Put text in the place of the code points from `start` up to `end`.

        Raises:
            HeadstartError: As for `append`.
        """
        fields = {"start": operator.index(start), "end": operator.index(end)}
        await self._edit({"type": "input_text.replace", **fields, "text": encodable(text)})

    async def clear(self) -> None:
        """Forget the text.

        Raises:
            HeadstartError: As for `append`.
        """
        await self._edit({"type": "input_text.clear"})

    async def update(self, **session: Any) -> None:
        """Change what comes before the text, or how it is answered.

        Args:
            session: What `AsyncClient.live` takes; what is left out stays. None takes it away, and
                has nothing thought where it is for `livemind`. Sampling fields replace all others.

        Raises:
            HeadstartError: It is refused, and all is as it was.
        """
        async with self._updating:
            await self._asked("PATCH", self._path, {"session": session_of(session)})

    async def state(self) -> LiveState:
        """Ask for all there is of the session.

        Raises:
            HeadstartError: The session is gone, or nobody answers.
        """
        return state_in(await self._asked("GET", self._path))

    async def computed(self) -> Computed:
        """Ask how much of the text is computed.

        Raises:
            HeadstartError: As for `state`.
        """
        return (await self.state()).computed

    async def reasoning(self) -> Reasoning | None:
        """Ask what has been thought; None unless `livemind` has `show_thoughts`.

        Raises:
            HeadstartError: As for `state`.
        """
        return (await self.state()).reasoning

    async def computed_ahead(self) -> ComputedAhead | None:
        """Ask what was computed ahead for the latest answer; None until that has ended.

        Raises:
            HeadstartError: As for `state`.
        """
        return (await self.state()).computed_ahead

    async def commit(self) -> AsyncAnswer[ChatCompletionChunk]:
        """Send the text off; the session goes on when the answer is over.

        Edits that are not confirmed yet go with it. Where it is given up meanwhile, or nobody
        answers, what became of those is not known, either.

        Raises:
            HeadstartError: It is refused, or an edit before it is; the text is still there.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turn = Waiting(_settler(granted), None)
        self._text.put(turn)
        try:
            response = await self._sent_along(turn)
            if response is None:
                response = await self._sent_in_turn(turn, granted)
            answer = self._read(response)
            self._answer_id = answer.id
            return answer
        finally:
            self._pump()

    async def _sent_along(self, turn: Waiting) -> httpx.Response | None:
        """Send a commit with the edits before it; None if it has to wait until they are made."""
        body = self._text.taken_along(turn)
        if body is None:
            return None
        if self._pumping is not None and not self._pumping.done():
            self._overtaken.add(self._pumping)
            self._pumping.add_done_callback(self._overtaken.discard)
        self._pumping = None
        try:
            response = await self._sent_off(body)
        except HeadstartError as error:
            if not is_lost(error):
                self._text.refused(error)
                return None
            self._text.lost(error)
            raise
        except BaseException:
            self._text.lost(Cancelled("the commit that took it along was given up"))
            raise
        self._text.sent_off()
        return response

    async def _sent_in_turn(self, turn: Waiting, granted: "asyncio.Future[None]") -> httpx.Response:
        """Send a commit when all edits before it are made."""
        self._pump()
        try:
            await granted
        except asyncio.CancelledError:
            self._text.drop(Cancelled("the commit was given up"), turn)
            raise
        try:
            response = await self._sent_off({"version": self._text.version})
        except BaseException as error:
            if isinstance(error, HeadstartError) and not is_lost(error):
                self._text.drop(error, turn)
            else:  # it may have been taken
                self._text.sent_off()
            raise
        self._text.sent_off()
        return response

    async def cancel(self) -> None:
        """Stop the answer, or the commit that waits for a thought: its text is still there.

        Raises:
            LiveConflict: There is neither.
            HeadstartError: As for `state`.
        """
        patience = Patience(self._limits)
        try:
            await self._asked("POST", f"{self._path}/cancel", patience=patience)
        except LiveConflict as error:
            if error.code != "no_response" or not patience.has_lost:
                raise  # else it was cancelled, and that not heard
        self._num_cancelled += 1

    async def close(self) -> None:
        """End the session, which the server then forgets; it does so by itself after a while."""
        sending = [*self._overtaken, *([self._pumping] if self._pumping is not None else [])]
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        self._text.lost(Cancelled("the live prompt was closed"))
        try:
            await self._ask("DELETE", self._path, {})
        except HeadstartError:
            return

    async def _edit(self, event: dict[str, Any]) -> None:
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Waiting(_settler(outcome), event))
        await outcome

    def _put(self, one: Waiting) -> None:
        self._text.put(one)
        self._pump()

    def _pump(self) -> None:
        """Have what waits sent, in order, by one task."""
        is_idle = self._pumping is None or self._pumping.done()
        if len(self._text) and is_idle and self._text.known is not Known.LEAVING:
            loop = asyncio.get_running_loop()
            self._pumping = loop.create_task(self._send_all(), name="live prompt edits")

    async def _send_all(self) -> None:
        text = self._text
        try:
            while len(text) and not self._is_overtaken():
                if text.known is not Known.ALL:
                    before = text.version
                    text.looked(await self._looked())
                    if text.version != before:  # they do arrive
                        self._patience = Patience(self._limits)
                elif text.is_commits_turn:
                    text.grant()
                    return  # whoever commits goes on
                else:
                    await self._send()
        except Exception as error:  # whatever it is, nobody waits for ever
            if self._is_overtaken():
                return
            known = error if isinstance(error, HeadstartError) else ProtocolViolation(str(error))
            text.lost(known)
            if known is not error:
                raise

    async def _send(self) -> None:
        edits = self._text.taken()
        self._have_spare()
        try:
            state_in(await self._ask("PATCH", self._path, {"edits": edits}))
        except HeadstartError as error:
            if self._is_overtaken():
                return
            if is_lost(error):
                self._text.unheard()
                await self._patience.lost(error)
                return
            self._text.refused(error)
        else:
            if self._is_overtaken():
                return
            self._text.made()
        self._patience = Patience(self._limits)

    def _is_overtaken(self) -> bool:
        """Whether a commit has taken along what this task has sent: it is the commit's now."""
        return asyncio.current_task() in self._overtaken

    async def _looked(self) -> LiveState:
        looked = state_in(await self._asked("GET", f"{self._path}?text=1"))
        if looked.response is not None and not looked.is_answering:
            self._answer_id = looked.response.id
        return looked

    async def _sent_off(self, body: dict[str, Any]) -> httpx.Response:
        """Send the text off once, however often that is asked for."""
        patience, num_cancelled = Patience(self._limits), self._num_cancelled
        while True:
            try:
                return await self._ask("POST", f"{self._path}/commit", body)
            except HeadstartError as error:
                refusal = error
            if is_lost(refusal):
                await patience.lost(refusal)
            elif not patience.has_lost:
                raise refusal
            state, has_waited = await self._thought_waited_for()
            answer = state.response
            if answer is not None and answer.id != self._answer_id:
                return await self._asked("GET", f"/v1/streams/{answer.id}?after=0")
            if self._num_cancelled != num_cancelled:
                raise LiveConflict("the text was not sent off", code="commit_cancelled")
            if not (is_lost(refusal) or has_waited):
                raise refusal

    async def _thought_waited_for(self) -> tuple[LiveState, bool]:
        """Wait until no commit waits for a thought; return what there is then, and whether."""
        state, has_waited = await self.state(), False
        while state.is_committing:
            has_waited = True
            await asyncio.sleep(_COMMITTING_S)
            state = await self.state()
        return state, has_waited

    async def _asked(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        patience: Patience | None = None,
    ) -> httpx.Response:
        """Ask for what does no harm if it is asked for again, until somebody answers."""
        patience = patience or Patience(self._limits)
        while True:
            try:
                return await self._ask(method, path, body or {})
            except HeadstartError as error:
                if not is_lost(error):
                    raise
                await patience.lost(error)


def _settler(outcome: "asyncio.Future[None]") -> Callable[[HeadstartError | None], None]:
    outcome.add_done_callback(lambda one: one.cancelled() or one.exception())  # it has been seen

    def settle(error: HeadstartError | None) -> None:
        if outcome.done():
            return  # nobody waits any longer
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    return settle
