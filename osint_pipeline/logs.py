"""Log lines: events with fields, the same for our own code and for the libraries beneath it; one line each, no secrets.

A run binds its fields once (`bind`, `bound`); all that is logged while it goes on, in its tasks and threads, bears them.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

import structlog

from osint_pipeline.logfile import SharedFile
from osint_pipeline.masking import Mask
from settings.service import Service

SERVICES = frozenset({"worker", "up", "metrics", "run"})  # kinds of processes that nobody sits in front of
_handlers: list[logging.Handler] = []
_LONGEST = 8000  # characters of one value
_ALWAYS = ("time", "level", "event", "run", "source", "url", "capture", "machine", "kind", "pid", "logger")
_COLOURS = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}


def logger(name: str) -> Any:
    """Give a logger: `log.info("sealed", warc=name, size_bytes=n)`. Until configure() it is a plain one of Python's."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(), _to_stdlib],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )


def configure(service: Service, *, kind: str) -> None:
    """Send every log line of this process where the settings say. May be called again; the last call holds."""
    shut()
    handler: logging.Handler
    if service.log_file:
        handler = SharedFile(service.log_file, limit_bytes=service.log_bytes, keep=service.log_keep)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(service, kind))
    _handlers.append(handler)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(service.log_level.upper())


def shut() -> None:
    """Take away what configure() set up."""
    while _handlers:
        old = _handlers.pop()
        logging.getLogger().removeHandler(old)
        old.close()


def bind(**fields: Any) -> None:
    """Let all that is logged from here on, in this task and those that it starts, bear these fields."""
    structlog.contextvars.bind_contextvars(**_told(fields))


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Let what is logged within bear these fields: run, source, url, capture."""
    with structlog.contextvars.bound_contextvars(**_told(fields)):
        yield


def in_context(call: Callable[..., Any], *words: Any) -> Callable[[], Any]:
    """Make a call that logs what is bound here, wherever it runs: for run_in_executor, which takes nothing along."""
    return partial(copy_context().run, call, *words)


def submit(pool: Executor, call: Callable[..., Any], *words: Any) -> Any:
    """Submit a call to a pool of threads with what is bound here."""
    return pool.submit(in_context(call, *words))


def _told(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}


def _to_stdlib(_: Any, name: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any], dict[str, Any]]:
    """Hand an event to Python's logging: its name as the message, its fields beside it."""
    message = event.pop("event", "")
    known = {key: event.pop(key) for key in ("exc_info", "stack_info", "stacklevel") if key in event}
    return (message,), {"extra": {"fields": dict(event)}, **known}


def _formatter(service: Service, kind: str) -> logging.Formatter:
    unread = service.log_file is not None or (kind in SERVICES and not sys.stderr.isatty())
    as_json = service.log_format == "json" or (service.log_format == "auto" and unread)
    bare = service.log_format == "auto" and kind not in SERVICES and not service.log_file
    render: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if as_json else _Text(service, bare=bare)
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            _own_fields,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _Place(service.machine, kind),
            _short,
            Mask.of(service),
            _in_order,
        ],
        use_get_message=True,
    )


def _own_fields(_: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event["_record"]
    event.update(getattr(record, "fields", {}))
    if record.exc_info:
        event.setdefault("exc_info", record.exc_info)
    return event


class _Place:
    """Says which process of which machine a line is of, and cuts its time to milliseconds."""

    def __init__(self, machine: str, kind: str) -> None:
        self.machine, self.kind = machine, kind

    def __call__(self, _: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["time"] = event["time"][:23] + "Z"
        event["machine"], event["kind"], event["pid"] = self.machine, self.kind, os.getpid()
        return event


def _short(_: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key != "_record" and isinstance(value, str) and len(value) > _LONGEST:
            event[key] = value[:_LONGEST] + "…"
    return event


def _in_order(_: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {key: event[key] for key in _ALWAYS if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}


class _Text:
    """A line for a person: time, level, event, fields. Never more than one line, but for a traceback.

    `bare`: the event and its own fields alone, for a command that a person waits for.
    """

    def __init__(self, service: Service, *, bare: bool) -> None:
        self.bare = bare
        self.colours = service.log_file is None and sys.stderr.isatty()

    def __call__(self, _: Any, name: str, event: MutableMapping[str, Any]) -> str:
        level, time, said = event.pop("level"), event.pop("time"), event.pop("event")
        trace = event.pop("exception", None)
        for key in ("machine", "kind", "pid", "logger", *(("run", "source") if self.bare else ())):
            event.pop(key, None)
        fields = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
        colour, plain = (_COLOURS.get(level, ""), "\033[0m") if self.colours else ("", "")
        before = "" if self.bare else f"{time[11:19]}Z {colour}{level}{plain} "
        line = f"{before}{_printable(str(said))}{fields}"
        return f"{line}\n{trace}" if trace else line


def _quoted(value: Any) -> str:
    text = _printable(str(value))
    return f'"{text}"' if " " in text or not text else text


def _printable(text: str) -> str:
    """Leave no control character in what a page may have named: a line stays a line, a terminal stays as it is."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
