"""Parts of vLLM that take their time where a request asks them to.

vLLM is told of them by import path, and imports them in processes of its own: the folder they are
in has to be on the path, and this name has to be one that nothing else has.
"""

import asyncio
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.worker.cpu_worker import CPUWorker

__all__ = ["SlowApp", "SlowScheduler", "SlowWorker"]

DECODE_STEP = 2
"""The decoding step that is slow: vLLM begins the first before it has the prefill's token."""


def _delay_s(sampling: Any, stage: str) -> float:
    """What a request's `vllm_xargs` ask for."""
    arguments: dict[str, float] = sampling.extra_args or {}
    return arguments.get(f"{stage}_delay_s", 0.0)


class SlowScheduler(AsyncScheduler):
    """Looks at a new request for a while before it schedules it: `queue_delay_s`."""

    def schedule(self, *args: Any, **options: Any) -> Any:
        for request in self.waiting:
            time.sleep(_delay_s(request.sampling_params, "queue"))
        return super().schedule(*args, **options)


class SlowWorker(CPUWorker):
    """Takes a while over a prompt (`prefill_delay_s`) or a later token (`decode_delay_s`)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._decode_delays_s: dict[str, list[float]] = {}
        """By request: what is left to wait, the next step's first."""

    def execute_model(self, scheduler_output: Any) -> Any:
        for request in scheduler_output.scheduled_new_reqs:
            time.sleep(_delay_s(request.sampling_params, "prefill"))
            delay_s = _delay_s(request.sampling_params, "decode")
            self._decode_delays_s[request.req_id] = [0.0] * (DECODE_STEP - 1) + [delay_s]
        for request_id in scheduler_output.scheduled_cached_reqs.req_ids:
            if delays_s := self._decode_delays_s[request_id]:
                time.sleep(delays_s.pop(0))
        return super().execute_model(scheduler_output)


class SlowApp:
    """Holds a request back (`x-tokenise-delay-s`), or the end of its answer (`x-frame-delay-s`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_slowly(message: Message) -> None:
            if message.get("body", b"").endswith(b"data: [DONE]\n\n"):
                await asyncio.sleep(float(headers.get("x-frame-delay-s", 0)))
            await send(message)

        await asyncio.sleep(float(headers.get("x-tokenise-delay-s", 0)))
        await self._app(scope, receive, send_slowly)
