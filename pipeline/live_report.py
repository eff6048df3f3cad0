"""What a live prompt's client is told, as events."""

from typing import Any

import msgspec

from headstart.pipeline.errors import live_error
from headstart.pipeline.live_answer import LiveAnswer
from headstart.pipeline.live_session import LiveSession
from headstart.pipeline.timing import timing_of
from headstart.stages.errors import BadRequest
from headstart.stages.frames import Channel, Frame

__all__ = ["deltas", "described", "done", "state", "text_state"]

_DELTAS = {
    Channel.CONTENT: "response.output_text.delta",
    Channel.REASONING: "response.reasoning_text.delta",
}


class _Reason(msgspec.Struct):
    message: str
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Reason


def text_state(session: LiveSession) -> dict[str, Any]:
    """Say which text the server has."""
    return {"version": session.version, "num_chars": len(session.text)}


def described(session: LiveSession) -> dict[str, Any]:
    """Say what a session is."""
    fields: dict[str, Any] = {"id": session.id, "model": session.model, "mode": session.mode}
    if session.has_private_cache:
        fields["private_cache"] = True
    if session.mode == "livemind":
        fields["livemind"] = session.mind
        fields["is_prefix_friendly"] = session.mind.format.is_prefix_friendly
    return fields | text_state(session)


def deltas(frames: list[tuple[int, Frame]]) -> list[dict[str, Any]]:
    """Join what came together; an event has the text of one choice and channel, and its cursor.

    Args:
        frames: Each with the cursor behind it.
    """
    events: list[dict[str, Any]] = []
    for cursor, frame in frames:
        kind = _DELTAS.get(frame.channel)
        if kind is None or not frame.text:
            continue
        if events and (events[-1]["type"], events[-1]["output_index"]) == (kind, frame.choice):
            events[-1]["delta"] += frame.text
        else:
            events.append({"type": kind, "output_index": frame.choice, "delta": frame.text})
        events[-1]["cursor"] = cursor
    return events


def done(answer: LiveAnswer) -> dict[str, Any]:
    """Say how an answer ended, where its time went, and what was computed ahead for it."""
    return {"type": "response.done", **_ended(answer)}


def state(session: LiveSession, *, has_text: bool = False) -> dict[str, Any]:
    """Say all there is of a session, for whoever asks instead of watching."""
    fields = {**described(session), "is_answering": session.is_answering}
    fields["is_committing"] = session.is_committing
    fields["computed"] = session.progress
    if has_text:
        fields["text"] = session.text
    if session.reasoning is not None:
        fields["reasoning"] = session.reasoning
    answer = session.answer
    if answer is None:
        return fields
    if not answer.settled.done():
        return fields | {"response": {"id": answer.stream.id, "status": "in_progress"}}
    return fields | _ended(answer)


def _ended(answer: LiveAnswer) -> dict[str, Any]:
    return {
        "response": {"id": answer.stream.id, **_outcome(answer)},
        "timing": timing_of(answer.stream),
        **_computed_ahead(answer),
    }


def _computed_ahead(answer: LiveAnswer) -> dict[str, Any]:
    """Say what was computed ahead for an answer, unless a fault of ours has lost the account."""
    account = answer.account
    if account is None:
        return {}
    return {
        "computed_ahead": {
            "tokens": account.computed_tokens,
            "wasted_tokens": account.wasted_tokens,
            "engine_s": round(account.seconds, 6),
            "hidden_s": round(account.hidden_s, 6),
            **_thinking(answer),
        }
    }


def _thinking(answer: LiveAnswer) -> dict[str, Any]:
    """Say what was thought for an answer, if anything was."""
    account = answer.thought
    if account is None:
        return {}
    return {
        "waited_s": round(answer.waited_s, 6),
        "thoughts": account.num_used,
        "thought_tokens": account.used_tokens,
        "wasted_thought_tokens": account.made_tokens - account.used_tokens,
        "thought_engine_s": round(account.seconds, 6),
    }


def _outcome(answer: LiveAnswer) -> dict[str, Any]:
    """Say how an answer ended; where it failed, the text is still there to be committed again."""
    end, header = answer.stream.end, answer.stream.log.header
    assert end is not None
    if end.failure is not None:
        return {"status": "failed", "error": live_error(end.failure.to_error())}
    if header is None or not header.is_event_stream:
        return {"status": "failed", "error": _refusal_of(answer)}
    status = "cancelled" if end.is_aborted else "completed"
    return {"status": status, "finish_reasons": list(end.finish_reasons)}


def _refusal_of(answer: LiveAnswer) -> Any:
    """Return what the engine said instead of answering."""
    body = b"".join(frame.payload or b"" for _, frame in answer.stream.log.frames(0))
    try:
        said = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.MsgspecError:
        return live_error(BadRequest("the engine refused the request"))
    return live_error(BadRequest.of_engine(said.message, said.param))
