"""Which pages may ask for what a browser asks of anybody, and by which names a server is asked."""

import re
from ipaddress import ip_address

__all__ = ["is_own_name", "may_open"]

_PORT = re.compile(r":\d*$")


def may_open(
    origin: str | None, host: str, allowed: tuple[str, ...], *, is_http: bool = True
) -> bool:
    """Whether the page that opens a connection may: browsers ask nobody before they do.

    So it is with WebSockets and WebTransport, and with what a form could send.

    Args:
        origin: The page's, as `Origin` says it; programs have none, and may.
        host: The name, and perhaps port, that the connection is opened to.
        allowed: Further origins; `*` is all of them.
        is_http: Whether the connection is at the port that the gateway's own pages come from.
            QUIC's may be another, behind a proxy most often: there the name decides.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    own = origin.partition("://")[2].lower()
    host = host.lower()
    if not is_http:
        own, host = _PORT.sub("", own), _PORT.sub("", host)
    return own != "" and own == host


def is_own_name(host: str, names: tuple[str, ...]) -> bool:
    """Whether a server that only its own machine can reach is asked by a name of this machine.

    Another is most likely that of a page whose name has come to mean this machine since it was
    loaded (DNS rebinding): to a browser that page and the server are one, and no origin differs.

    Args:
        host: As the request's `Host` has it; empty where it has none, as no browser's.
        names: Further ones that will do.
    """
    name = _PORT.sub("", host.lower()).removeprefix("[").removesuffix("]").removesuffix(".")
    if name in ("", "localhost", *map(str.lower, names)) or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
