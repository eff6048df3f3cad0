"""Which pages may open a connection that a browser opens to anybody: WebSocket and WebTransport."""

import re

__all__ = ["may_open"]

_PORT = re.compile(r":\d*$")


def may_open(
    origin: str | None, host: str, allowed: tuple[str, ...], *, is_http: bool = True
) -> bool:
    """Whether the page that opens a connection may: browsers ask nobody before they do.

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
