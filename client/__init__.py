"""What a user's program imports to talk to a Headstart daemon.

    from headstart.client import AsyncClient, Client

Works with the base install: no Ray, engine or server package is imported, and of Headstart only
`headstart.stages`. Chunks and completions are the `openai` package's own classes.
"""

from headstart.client.answer import AsyncAnswer
from headstart.client.async_client import AsyncClient
from headstart.client.live import AsyncLivePrompt
from headstart.client.sync_client import Answer, Client, LivePrompt

__all__ = ["Answer", "AsyncAnswer", "AsyncClient", "AsyncLivePrompt", "Client", "LivePrompt"]
