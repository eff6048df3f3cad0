"""Structured logs: JSON in service, readable on a terminal. Never prompt or answer text.

Our own events are written by hand and hold none. What libraries log goes through the same format,
and what an error says is left out unless the error is one of our tree: it may quote a request.
"""

import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor

from headstart.stages.errors import ClientError, HeadstartError

__all__ = ["ENGINE_LOGGING", "adopt", "formatter", "set_up"]

ENGINE_LOGGING = Path(__file__).with_name("engine_logging.json")
"""Configuration in the form of `logging.config.dictConfig`: for vLLM, which reads it in each of its
processes. Always JSON: what those write goes to Ray's files."""

_MOST_ERRORS = 8
"""Of a chain of causes that is written out."""


def set_up(process: str, *, level: str, form: str) -> None:
    """Send every log of this process to standard error, in one format.

    Args:
        process: Named in each event: `daemon`, `gateway` or `replica`.
        level: Least severe event of ours that is written, in lower case.
        form: `json`, `console`, or `auto` for `console` on a terminal and `json` elsewhere.
    """
    # In a replica, Serve has put a logger in the place of `sys.stderr`: a log line would come back.
    stream = sys.__stderr__
    assert stream is not None
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    structlog.configure(
        processors=[*_annotations(process), *_ending(form)],
        wrapper_class=structlog.make_filtering_bound_logger(level.upper()),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form, process))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def formatter(form: str = "json", process: str = "engine") -> logging.Formatter:
    """Make the formatter that gives a standard library record the form of our events."""
    return _Formatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *_annotations(process)],
        processors=[ProcessorFormatter.remove_processors_meta, *_ending(form)],
    )


def adopt(*names: str) -> None:
    """Have the loggers of libraries that brought handlers of their own write as everything else."""
    for name in logging.root.manager.loggerDict:
        if any(name == one or name.startswith(f"{one}.") for one in names):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True


class _Formatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        record = logging.makeLogRecord(record.__dict__)
        record.msg, record.args = _without_errors(record), ()
        return super().format(record)


def _annotations(process: str) -> list[Processor]:
    # Not bound as a context variable: other threads would not have it.
    def name_process(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {**event, "process": process}

    return [
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _ending(form: str) -> list[Processor]:
    renderer: Processor = structlog.processors.JSONRenderer()
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer()
    return [structlog.processors.ExceptionRenderer(_frames), renderer]


def _frames(exc_info: ExcInfo) -> str:
    """A traceback as Python writes it, less what the errors say."""
    parts: list[str] = []
    for error in _chain(exc_info[1])[-_MOST_ERRORS:]:
        parts += traceback.format_tb(error.__traceback__)
        parts.append(f"{_name(error)}\n")
    return "".join(parts).rstrip()


def _chain(error: BaseException | None) -> list[BaseException]:
    """The causes of an error, those of a group too, and the error itself last."""
    found: list[BaseException] = []
    pending = [error]
    while pending:
        error = pending.pop()
        if error is None or any(error is one for one in found):
            continue
        found.append(error)
        pending.append(
            error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        )
        pending += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return found[::-1]


def _name(error: BaseException) -> str:
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    # What is the client's fault is worded around what the client sent.
    if isinstance(error, HeadstartError) and not isinstance(error, ClientError):
        return f"{name}: {error.message}"
    return name


def _without_errors(record: logging.LogRecord) -> str:
    """The record's message, with each error named and not quoted."""
    values = record.args if isinstance(record.args, tuple) else ()
    errors = [value for value in values if isinstance(value, BaseException)]
    if isinstance(record.msg, BaseException):
        errors.append(record.msg)
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        errors += _chain(record.exc_info[1])
    for error in errors:
        for said in sorted({repr(error), str(error)}, key=len, reverse=True):
            if said:
                text = text.replace(said, _name(error))
    return text


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
