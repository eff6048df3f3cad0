"""A worker whose processor is said to have matrix tiles, which attend in larger blocks.

vLLM imports it by its path, in processes of its own.
"""

from vllm.v1.attention.backends import cpu_attn

from headstart.cluster.runner_adapter import PlainWorker

__all__ = ["AmxWorker"]


class AmxWorker(PlainWorker):
    """Told so while it settles the blocks; it goes on with the kernels that there are."""

    def init_device(self) -> None:
        theirs = cpu_attn._get_attn_isa
        cpu_attn._get_attn_isa = lambda *_: "amx"
        try:
            super().init_device()
        finally:
            cpu_attn._get_attn_isa = theirs
