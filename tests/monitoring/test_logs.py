"""Every process logs in one form, and what a user wrote never gets into it."""

import json
import logging
import logging.config
import subprocess
import sys
from typing import Any

import pytest

from headstart.monitoring import logs
from headstart.stages.errors import BadRequest, EngineFailed

PROMPT = "a-word-that-only-the-prompt-has"


def written(record: logging.LogRecord) -> dict[str, Any]:
    """What the formatter makes of a record."""
    found: dict[str, Any] = json.loads(logs.formatter().format(record))
    return found


def failing(error: BaseException, message: str = "it broke", *args: object) -> logging.LogRecord:
    """The record of an error that was raised and caught here."""
    try:
        raise error
    except BaseException:
        return logging.LogRecord("vllm", logging.ERROR, "", 0, message, args, sys.exc_info())


def test_library_record_has_the_fields_of_ours() -> None:
    found = written(logging.LogRecord("uvicorn", logging.WARNING, "", 0, "%d bytes", (7,), None))

    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "7 bytes",
        "level": "warning",
        "logger": "uvicorn",
        "process": "engine",
    }


def chained() -> Exception:
    error = RuntimeError(PROMPT)
    error.__cause__ = KeyError(PROMPT)
    error.__cause__.__context__ = error  # Python itself allows a ring
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(PROMPT),
        BadRequest(PROMPT),
        chained(),
        ExceptionGroup("several", [ValueError(PROMPT), OSError(5, PROMPT)]),
        UnicodeDecodeError("utf-8", PROMPT.encode(), 0, 1, PROMPT),
    ],
)
def test_error_is_named_with_its_frames_and_not_quoted(error: Exception) -> None:
    found = written(failing(error))

    assert PROMPT not in json.dumps(found)
    assert type(error).__name__ in found["exception"]
    assert "in failing" in found["exception"]


def test_what_our_own_errors_say_is_kept() -> None:
    assert (
        "EngineFailed: the core died"
        in written(failing(EngineFailed("the core died")))["exception"]
    )


@pytest.mark.parametrize(
    "message", ["failed: %s", "failed: %r", f"asyncio puts {PROMPT!r} here", PROMPT]
)
def test_message_that_quotes_an_error_names_it(message: str) -> None:
    error = ValueError(PROMPT)

    record = failing(error, message, *([error] if "%" in message else []))

    assert PROMPT not in json.dumps(written(record))


def test_error_alone_is_named() -> None:
    record = logging.LogRecord(
        "vllm", logging.ERROR, "", 0, "lost: %s", (ValueError(PROMPT),), None
    )
    assert written(record)["event"] == "lost: ValueError"

    record.msg, record.args = ValueError(PROMPT), ()
    assert written(record)["event"] == "ValueError"


SPEAKING = f"""
import asyncio, logging, threading, warnings
import structlog
from headstart.monitoring import logs

library = logging.getLogger("library.part")
library.addHandler(logging.StreamHandler())
library.propagate = False
logs.set_up("daemon", level="info", form="FORM")
logs.adopt("library")

def fail():
    raise ValueError("{PROMPT}")

structlog.get_logger().info("ours", number=1)
structlog.get_logger().debug("too fine")
library.warning("theirs")
warnings.warn("deprecated")
try:
    fail()
except ValueError as error:
    structlog.get_logger().error("ours_failed", exc_info=error)
thread = threading.Thread(target=fail)
thread.start()
thread.join()

async def main():
    async def failing():
        fail()
    task = asyncio.ensure_future(failing())
    await asyncio.wait([task])

asyncio.run(main())
fail()
"""


def spoken(form: str) -> str:
    """What a process writes to standard error that logs, warns and fails in every way."""
    code = SPEAKING.replace("FORM", form)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.stderr


def test_whole_process_writes_one_form_and_no_prompt() -> None:
    text = spoken("auto")

    assert PROMPT not in text
    found = [json.loads(line) for line in text.splitlines()]
    assert {one["process"] for one in found} == {"daemon"}
    assert [one["event"] for one in found[:2]] == ["ours", "theirs"]
    assert [one["level"] for one in found].count("critical") == 2
    assert any("never retrieved" in one["event"] for one in found)


def test_console_form_has_no_prompt_either() -> None:
    text = spoken("console")

    assert PROMPT not in text
    assert "theirs" in text


def test_configuration_for_engine_processes_is_one_that_works() -> None:
    code = (
        "import json, logging, logging.config, pathlib, sys;"
        "logging.config.dictConfig(json.loads(pathlib.Path(sys.argv[1]).read_text()));"
        "logging.getLogger('vllm.v1').info('%d blocks', 3); logging.getLogger('torch').warning('x')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(logs.ENGINE_LOGGING)],
        capture_output=True,
        text=True,
        check=True,
    )

    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(one["event"], one["logger"]) for one in events] == [
        ("3 blocks", "vllm.v1"),
        ("x", "torch"),
    ]
