"""Structured logs: JSON in service, readable on a terminal. Never prompt or answer text."""

import logging
import sys

import structlog

__all__ = ["set_up"]


def set_up(process: str, *, level: str, form: str) -> None:
    """Send every log of this process to standard error, in one format.

    Args:
        process: Bound to each event: `daemon`, `gateway` or `replica`.
        level: Least severe event that is written, in lower case.
        form: `json`, `console`, or `auto` for `console` on a terminal and `json` elsewhere.
    """
    is_console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.upper()),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
