"""Logging: structured lines on stderr, each with what is known of the call that it is about."""

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import structlog

from gradwire_server.access.identity import caller
from gradwire_server.calls import current_call, log_name, trace_id

LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]

_PACKAGE = "gradwire_server"

Context = Callable[[], Mapping[str, str]]
"""Returns what is known of the call in progress, by name; empty values are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLevels:
    """What to leave out of the log.

    Attributes:
        default: Lines of gradwire below this level are left out; of libraries, below warning.
        modules: The same for single modules and libraries, by the names of their loggers.
    """

    default: LogLevel
    modules: Mapping[str, LogLevel]

    @classmethod
    def parse(cls, text: str) -> "LogLevels":
        """Returns the levels that ``LEVEL[,MODULE=LEVEL...]`` stands for.

        A module is one of gradwire's, such as ``sessions`` or ``transport.auth``, or a library,
        such as ``grpc``.

        Raises:
            ValueError: It is malformed, or a level is none.
        """
        default, *others = (part.strip() for part in text.split(","))
        modules = {}
        for other in others:
            name, equals, level = other.partition("=")
            if not equals or not name:
                raise ValueError(f'"{other}" is no MODULE=LEVEL')
            modules[_logger_name(name)] = _level(level)
        return cls(default=_level(default), modules=modules)


def call_context() -> dict[str, str]:
    """Returns what the front knows of the call in progress."""
    call = current_call()
    if call is None:
        return {}
    return {
        "method": call.method,
        "request": call.request_id,
        "session": log_name(call.resource),
        "tenant": caller().tenant,
        "trace": trace_id(call.trace),
    }


def configure_logging(
    log_format: LogFormat, log_level: str, context: Context = call_context
) -> None:
    """Sends the log of this process, libraries included, to stderr.

    Args:
        log_format: One JSON object a line, or text for people.
        log_level: What to leave out, see `LogLevels.parse`.
        context: What lines get that do not say it themselves.
    """
    levels = LogLevels.parse(log_level)

    def add_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in context().items():
            if value:
                event.setdefault(name, value)
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]
    if log_format == "json":
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The default shows local variables, and tokens and contents are among them.
        plain = structlog.dev.plain_traceback
        render = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_shows_no_request)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name, level in ({_PACKAGE: levels.default} | dict(levels.modules)).items():
        logging.getLogger(name).setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _level(text: str) -> LogLevel:
    known: tuple[LogLevel, ...] = get_args(LogLevel)
    for level in known:
        if text == level:
            return level
    raise ValueError(f'"{text}" is no level; expected one of {", ".join(known)}')


def _shows_no_request(record: logging.LogRecord) -> bool:
    """Whether a line may be logged: not if it shows what a library could not parse of a request.

    That may be a token with a bit wrong, and whoever can reach the server can send as much of it as
    they like.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_unparsed = type(error).__module__ == "aiohttp.http_exceptions"
    return not is_unparsed and not str(record.msg).startswith("Invalid encoding on ")


def _logger_name(module: str) -> str:
    """Returns the name of the logger of one of gradwire's modules, or of a library."""
    ours = f"{_PACKAGE}.{module}"
    try:
        known = importlib.util.find_spec(ours) is not None
    except ModuleNotFoundError:
        known = False
    return ours if known else module
