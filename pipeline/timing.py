"""What a client is told about where the time of its request went."""

from typing import Any

import msgspec

from headstart.cluster.stream import Stream
from headstart.stages.stage_clock import Mark

__all__ = ["timing_of"]


def timing_of(stream: Stream) -> dict[str, Any]:
    """Describe a request's stages so far, in seconds.

    `clock_uncertainty_s` is the largest error of the stages that span gateway and replica.
    """
    clock, end = stream.clock, stream.end
    return {
        "stream_id": stream.id,
        "is_finished": end is not None,
        "stages_s": {stage.value: round(span, 6) for stage, span in clock.durations().items()},
        "until_first_token_s": clock.between(Mark.ARRIVED, Mark.FIRST_TOKEN),
        "until_sent_s": clock.between(Mark.ARRIVED, Mark.SENT),
        "clock_uncertainty_s": stream.clock_uncertainty_s,
        "prompt_tokens": end.prompt_tokens if end else None,
        "cached_prompt_tokens": end.cached_tokens if end else None,
        "output_tokens": end.output_tokens if end else None,
        "speculation": msgspec.structs.asdict(end.speculated) if end and end.speculated else None,
    }
