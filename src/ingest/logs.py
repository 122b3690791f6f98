"""Logs as JSON lines that say what happened and to which ids, and can hold no message text, phone number or address.

One processor holds that promise for our own lines: event names are constant words, and only the keys listed here keep
their values. Lines of other libraries keep their constant template and lose the strings that were to be put into it,
because Celery, kombu and asyncio print task arguments, message bodies and exceptions there.

Source: structlog 26, "Standard library logging" (rendering with `ProcessorFormatter`).
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from ingest.errors import IngestError

CONTEXT_KEYS = frozenset({"trace_id", "workspace_id", "queue", "job_id"})
"""What `structlog.contextvars.bound_contextvars` may put on every line of a request or a job."""

WORD_KEYS = CONTEXT_KEYS | {
    # of every line
    *("event", "level", "logger", "timestamp", "process", "exception"),
    # ids of our own making; a provider's ids are often phone numbers
    *("channel_id", "contact_id", "conversation_id", "message_id", "suggestion_id", "dead_letter_id"),
    *("deletion_id", "merge_id", "workflow_id", "run_id", "transfer_id", "subscription_id", "token_id"),
    *("user_id", "app_id"),
    # words of our own, and where things are
    *("action", "cause", "channel", "chore", "code", "deadline", "durable", "error", "host", "kind", "method"),
    *("migration", "name", "reason", "role", "route", "settings", "signal", "state", "status", "step"),
    *("subscribe_url", "version", "worker"),
}
"""Keys whose values are shown when they are ids, numbers, times or short words."""

NUMBER_KEYS = frozenset(
    {
        *("accepted", "attempt", "attempts", "bytes", "contacts", "count", "created", "dead", "discarded"),
        *("dropped", "duplicate", "events", "failed", "found", "ignored", "items", "jobs", "limit"),
        *("messages", "oldest", "pid", "pieces", "port", "released", "replayed", "requests", "restarts"),
        *("result", "retried", "rows", "seconds", "size", "spooled", "stored", "suggested", "waiting"),
    }
)
"""Keys that count something: shown when they are numbers."""

MEASURE_SUFFIXES = ("_count", "_seconds", "_bytes", "_percent", "_ms")
EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")

# These say in full what a server is doing; none of them sees a request's body or a task's arguments.
OUTSPOKEN_LOGGERS = ("uvicorn.error", "celery.beat", "alembic.runtime.migration")
# These write a line for every bell, of which there are several a second and none says what was done.
CHATTY_LOGGERS = ("celery.worker.strategy", "celery.app.trace", "celery.beat")
CELERY_TASK_WORDS = frozenset({"name", "id", "runtime", "hostname"})
MAX_WORD_CHARACTERS = 600
MAX_PLAIN_NUMBER = 10**7
# In a foreign line without arguments: what may be a phone number, an address, or something quoted from a message.
PERSONAL = re.compile(r"\+?\d[\d\s().-]{5,}\d|[^\s@]+@[^\s@]+|'[^']*'|\"[^\"]*\"")


def configure_logs(
    level: str = "info",
    style: Literal["json", "console"] = "json",
    process: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send structlog's and the standard library's lines to `stream` (default: standard output). Safe to repeat.

    `process` is put on every line: "web", "worker", "beat".
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            keep_event_names,
            *_of_every_line(process),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                quieten_foreign_line,
                *_of_every_line(process),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(style)],
            # The template and its arguments must arrive apart, for us to decide which arguments go in.
            use_get_message=False,
            pass_foreign_args=True,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel("NOTSET" if level == "debug" else "WARNING")
    logging.captureWarnings(capture=True)


def log_uncaught() -> None:
    """Have exceptions that nobody caught, in any thread, end up in the log instead of a traceback that quotes them."""

    def log_it(raised: BaseException | None, where: str) -> None:
        structlog.get_logger(__name__).critical("process.failed", exc_info=raised, name=where)

    sys.excepthook = lambda _kind, raised, _trace: log_it(raised, "main")
    threading.excepthook = lambda failed: log_it(failed.exc_value, failed.thread.name if failed.thread else "thread")


def _of_every_line(process: str | None) -> list[Processor]:
    def add_process(_logger: Any, _method: str, line: EventDict) -> EventDict:
        if process:
            line["process"] = process
        return line

    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process,
        describe_exception,
        keep_allowed_keys,
    ]


def _renderer(style: str) -> Processor:
    if style == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), sort_keys=False)
    return structlog.processors.JSONRenderer()


def keep_event_names(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Replace an event that is not a constant `noun.past_verb`: something may have been written into it."""
    event = line.get("event")
    if not isinstance(event, str) or not EVENT_NAME.fullmatch(event):
        line["event"] = f"unnamed.event {_shape(event)}"
    return line


def keep_allowed_keys(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Replace the value of every unknown key by its type and length. Keys that start with an underscore are structlog's."""
    for key, value in line.items():
        if key in {"event", "exception"} or key.startswith("_"):
            continue
        if not (_is_harmless(key, value) or (key in WORD_KEYS and _is_word(value))):
            line[key] = _shape(value)
    return line


def may_be_shown(key: str) -> bool:
    """Return whether values of this key are shown at all."""
    return key in WORD_KEYS or key in NUMBER_KEYS or key.endswith(MEASURE_SUFFIXES)


def _is_harmless(key: str, value: object) -> bool:
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and may_be_shown(key))


def _is_word(value: object) -> bool:
    """Return whether an allowed key's value is small and flat: nothing rides along inside it."""
    if isinstance(value, str):
        return len(value) <= MAX_WORD_CHARACTERS
    if isinstance(value, list | tuple):
        return all(isinstance(each, str | int | float) and _is_word(each) for each in value)
    return isinstance(value, int | float) or (value is not None and type(value).__name__ in {"UUID", "datetime"})


def _shape(value: object) -> str:
    """Return a value's type and length, which are all that is printed of it."""
    length = f" of {len(value)}" if isinstance(value, str | bytes | list | tuple | dict | set | frozenset) else ""
    return f"<{type(value).__name__}{length}>"


def describe_exception(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Replace `exc_info` by the chain of exceptions: type, text where it is known to be safe, and places in the code.

    Local variables are never shown. An exception's own text often quotes what it choked on.
    """
    given = line.pop("exc_info", None)
    raised = sys.exc_info()[1] if given is True else given
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        line["exception"] = describe(raised)
    else:
        line.pop("exception", None)
    return line


def describe(raised: BaseException) -> list[str]:
    """Return the exceptions that led to this one, each with its places, one a line and without any value."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = raised
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told.append(f"{type(current).__qualname__}: {safe_text(current)}".removesuffix(": "))
        told.extend(_places(current.__traceback__))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return told


def _places(trace: TracebackType | None) -> list[str]:
    return [f"  {each.filename}:{each.lineno} {each.name}" for each in traceback.extract_tb(trace)]


def safe_text(raised: BaseException) -> str:
    """Return what may be printed of an exception's text: ours in full, the system's and the database's by their codes."""
    if isinstance(raised, IngestError):
        return str(raised)
    if isinstance(raised, OSError):
        return raised.strerror or ""
    database = getattr(raised, "orig", raised)
    if (state := getattr(database, "sqlstate", None)) is not None:
        constraint = getattr(getattr(database, "diag", None), "constraint_name", None)
        return f"sqlstate {state}" + (f", constraint {constraint}" if constraint else "")
    text = " ".join(str(each) for each in raised.args)
    return f"<{len(text)} characters>" if text else ""


def quieten_foreign_line(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Return another library's line with its constant words only."""
    template, arguments = str(line["event"]), line.pop("positional_args", None)
    if str(line.get("logger", "")).startswith(OUTSPOKEN_LOGGERS):
        # The first line only: what follows is a traceback, whose last line quotes what an exception choked on.
        text = (template % arguments if arguments else template).partition("\n")[0]
    elif arguments:
        text = _filled_in(template, arguments)
    else:
        text = PERSONAL.sub("<hidden>", template.partition("\n")[0])
    line["event"] = text[:MAX_WORD_CHARACTERS]
    return line


def _filled_in(template: str, arguments: Any) -> str:
    try:
        if isinstance(arguments, Mapping):
            return template % {key: _plain(value, key in CELERY_TASK_WORDS) for key, value in arguments.items()}
        return template % tuple(_plain(each) for each in arguments)
    except (TypeError, ValueError, KeyError):
        return template


def _plain(value: object, trusted: bool = False) -> object:
    """Return a template's argument as it may be printed."""
    if trusted or isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float) and abs(value) < MAX_PLAIN_NUMBER:
        return value
    if isinstance(value, BaseException):
        return f"{type(value).__qualname__}: {safe_text(value)}"
    return _shape(value)
