"""Makes what computes one live prompt ahead, and what thinks about it."""

import time

from headstart.configs.live import ThinkingSettings
from headstart.configs.model_settings import CPU_BLOCK_TOKENS
from headstart.monitoring.live_meter import LiveMeter
from headstart.pipeline.access import Caller
from headstart.pipeline.live_events import MindConfig
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_thinker import LiveThinker, ThinkingModel, ThoughtAbout
from headstart.pipeline.live_warmer import LiveWarmer, Written
from headstart.stages.errors import Forbidden, LiveRefused
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.segmenter import Segmenter, segmenter
from headstart.stages.thoughts import Kind
from headstart.stages.warm_budget import PrefillSpeed
from headstart.stages.warm_events import LiveStage
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmLimits, WarmPolicy

__all__ = ["mind_limits", "thinker_of", "warmer_of"]

_MAX_WAIT = 10
"""Debounces that typing without a pause puts rendering off."""


def warmer_of(services: LiveServices, caller: Caller, written: Written) -> LiveWarmer:
    """Make what computes a session's text."""
    settings, shares = services.settings, services.shares
    limits = WarmLimits(
        settings.debounce_s, settings.edit_debounce_s, _MAX_WAIT * settings.debounce_s
    )
    unknown = PrefillSpeed(CPU_BLOCK_TOKENS, settings.slice_s)
    ledger = WarmLedger(shares.warm_tokens(caller))
    policy = WarmPolicy(limits, unknown, ledger)
    return LiveWarmer(services.replicas, written, policy, ledger, shares.renders(caller))


def thinker_of(
    services: LiveServices, caller: Caller, model: str, mind: MindConfig, about: ThoughtAbout
) -> LiveThinker:
    """Make what thinks about a session's text.

    Args:
        model: The served name that answers.

    Raises:
        HeadstartError: It may not be.
    """
    settings = services.settings.thinking
    if not settings.enabled:
        raise Forbidden("live prompts are not thought about here", param="mode")
    if Kind.INFERENCE not in mind.actions:
        raise LiveRefused("actions must have `inference`", param="actions", code="invalid_event")
    name = model
    if mind.thinker is not None:
        name = services.answering.name_for(mind.thinker, caller)
    services.access.check_thinking(caller)
    meter = services.metrics.live(services.answering.configured(name))
    segment = _timed(segmenter(mind.segments, mind.language.lower()), meter)
    machine = LiveMind(mind_limits(settings, mind), segment, services.shares.thought_tokens(caller))
    thinking = ThinkingModel(name, name == model, mind.actions, meter)
    return LiveThinker(machine, thinking, services.replicas, about)


def mind_limits(settings: ThinkingSettings, mind: MindConfig) -> MindLimits:
    """Return the gate of a session that asks to be thought about."""
    return MindLimits(
        min_chars=settings.min_chars,
        interval_s=settings.interval_s,
        settle_s=settings.settle_s,
        max_tokens=min(settings.max_tokens, mind.max_tokens or settings.max_tokens),
        max_thoughts=settings.max_thoughts,
        max_running=settings.max_running,
        at_commit=mind.at_commit,
        wait_s=settings.wait_s,
    )


def _timed(segment: Segmenter, meter: LiveMeter) -> Segmenter:
    def timed(text: str) -> list[int]:
        began = time.monotonic()
        ends = segment(text)
        meter.passed(LiveStage.SEGMENT, time.monotonic() - began)
        return ends

    return timed
