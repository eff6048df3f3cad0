"""The readers' end of a real link: many answers at once, by one arm at a time.

A process of its own, spoken to in lines of JSON. It says when more of an answer could be shown;
what was made when, the server's end knows.
"""

import asyncio
import time
from contextlib import suppress

import msgspec
import uvloop

from headstart.benchmarks.child import first_line, lines, say
from headstart.benchmarks.fault_readers import chat
from headstart.benchmarks.network_spaces import enter
from headstart.benchmarks.shipped_clients import AskAgain, Turn, ask_again
from headstart.benchmarks.socket_orders import Door, Enter
from headstart.benchmarks.socket_readers import Arm, Reader, Shown, connected

__all__ = ["Ask", "Connect", "Crowd", "Crowded", "serve"]

CROWD_PATIENCE_S = 90.0
_SPREAD_S = 5.0
"""Within which a crowd begins."""
_LINGER_S = 0.5
"""For what is still on its way: acknowledgements, and repeats that nobody needs."""


class Connect(msgspec.Struct, tag=True):
    """Open connections; answered by their ports, in order."""

    arm: Arm
    count: int
    door: Door
    address: str = "0.0.0.0"  # noqa: S104 - a client's own end
    """Of the client's, for TCP."""


class Ask(msgspec.Struct, tag=True):
    """Ask for an answer on each of them, all at one time; answered by one `Shown` for each.

    The connections are closed then.
    """

    model: str
    num_tokens: int
    at: float
    """On the monotonic clock."""
    patience_s: float
    first_prompt: int = 0
    """Each answer has a prompt of its own."""


class Crowd(msgspec.Struct, tag=True):
    """Read many answers at once on the QUIC connections that are open, one after another; answered
    by `Crowded`. The connections are closed then."""

    model: str
    num_tokens: int
    num_streams: int
    seconds: float
    """After which no answer is asked for any more."""


class Crowded(msgspec.Struct):
    """What became of them."""

    num_answers: int = 0
    num_wrong: int = 0
    """Of those, answers that were not whole."""
    why: dict[str, int] = {}
    """How often for what reason."""


def serve() -> None:
    """Be the readers' end."""
    order = msgspec.json.decode(first_line(), type=Enter)
    if order.space is not None:
        enter(order.space)
    uvloop.run(_serve())


async def _serve() -> None:
    readers: list[Reader] = []
    async for line in lines():
        order = msgspec.json.decode(line, type=Connect | Ask | AskAgain | Crowd)
        if isinstance(order, Connect):
            readers = await asyncio.gather(
                *(connected(order.arm, order.door, order.address) for _ in range(order.count))
            )
            say([each.port for each in readers])
            continue
        answer: Crowded | list[Shown] | list[list[Turn]]
        if isinstance(order, AskAgain):
            answer = await ask_again(order)
        elif isinstance(order, Ask):
            asking = [_read(each, order, number) for number, each in enumerate(readers)]
            await asyncio.gather(*asking)
            answer = [each.shown for each in readers]
        else:
            answer = await _crowd(readers, order)
        await asyncio.sleep(_LINGER_S)
        for each in readers:
            each.close()
        readers = []
        say(answer)


async def _crowd(readers: list[Reader], order: Crowd) -> Crowded:
    found, until = Crowded(), time.monotonic() + order.seconds

    async def read_on(number: int) -> None:
        reader = readers[number % len(readers)]
        body = chat(order.model, f"Say number {number % 64} again.", order.num_tokens)
        await asyncio.sleep(_SPREAD_S * number / order.num_streams)
        while time.monotonic() < until:
            found.num_answers += 1
            shown = Shown()
            try:
                async with asyncio.timeout(CROWD_PATIENCE_S):
                    shown = await reader.read(body)
            except TimeoutError:
                pass
            except OSError as error:  # the connection is gone, and all later answers with it
                found.num_wrong += 1
                found.why[str(error)] = found.why.get(str(error), 0) + 1
                return
            if not shown.is_whole:
                found.num_wrong += 1
                found.why[shown.why] = found.why.get(shown.why, 0) + 1

    await asyncio.gather(*(read_on(number) for number in range(order.num_streams)))
    return found


async def _read(reader: Reader, order: Ask, number: int) -> None:
    prompt = f"Say number {order.first_prompt + number} in other words."
    await asyncio.sleep(max(0.0, order.at - time.monotonic()))
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(order.patience_s):
            await reader.read(chat(order.model, prompt, order.num_tokens))
