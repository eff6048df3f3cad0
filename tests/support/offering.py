"""A gateway's offer of QUIC as a client sees it whose UDP takes another way."""

import json

import httpx

__all__ = ["OtherPort"]


class OtherPort(httpx.AsyncHTTPTransport):
    """Changes the UDP port in the gateway's offer; all else passes.

    Args:
        port: Of a relay.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.num_asked = 0
        """How often the offer was asked for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path != "/v1/transport":
            return response
        self.num_asked += 1
        if response.is_error:
            return response
        offer = json.loads(await response.aread())
        return httpx.Response(response.status_code, json=offer | {"port": self._port})
