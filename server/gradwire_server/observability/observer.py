"""What happens to each call, told to all who want to know."""

from time import perf_counter

from google.rpc import code_pb2, error_details_pb2, status_pb2

from gradwire_server.access.identity import Caller, caller
from gradwire_server.calls import Call, begin_call
from gradwire_server.observability.audit import AuditLog
from gradwire_server.observability.metrics import Metrics
from gradwire_server.observability.tracing import Tracing
from gradwire_server.transport.grpc_types import Context

OK = status_pb2.Status(code=code_pb2.OK)
CANCELLED = status_pb2.Status(code=code_pb2.CANCELLED)

_CODES = {number: name for name, number in code_pb2.Code.items()}


class Observer:
    """Counts, traces and records calls, as far as the settings ask for it.

    Args:
        metrics: Counts them, if that is asked for.
        audit: Records those that change something, if that is asked for.
        tracing: Traces them, if that is asked for.
    """

    def __init__(
        self,
        *,
        metrics: Metrics | None = None,
        audit: AuditLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self.tracing = tracing

    def begin(self, method: str, context: Context) -> Call:
        """Takes note of a call that begins; it is the one in progress from now on.

        Args:
            method: ``package.Service/Method``.
            context: The call's.
        """
        call = begin_call(Call(method=method))
        if self._metrics is not None:
            self._metrics.begin_call()
        if self._audit is not None:
            call.peer = context.peer()
        if self.tracing is not None:
            self.tracing.begin(call, context.invocation_metadata() or ())
        return call

    def end(self, call: Call, status: status_pb2.Status) -> None:
        """Takes note of how a call ended."""
        code = _CODES.get(status.code, "")
        if self._metrics is not None:
            seconds = perf_counter() - call.begun_at
            self._metrics.end_call(call.method, code, seconds, limit=_limit_of(status))
        if self._audit is not None:
            self._audit.record(call, caller(), code)
        if self.tracing is not None:
            self.tracing.end(call, code)

    def refuse(self, method: str, who: Caller | None, status: status_pb2.Status) -> None:
        """Takes note of a call that was refused at the door.

        Args:
            method: ``package.Service/Method``.
            who: Who called; none if that is not known.
            status: Why.
        """
        code = _CODES[status.code]
        call = Call(method=method)
        if self._metrics is not None:
            self._metrics.begin_call()
            self._metrics.end_call(method, code, 0.0)
        if self._audit is not None:
            self._audit.record(call, who, code)


def _limit_of(status: status_pb2.Status) -> str:
    if status.code != code_pb2.RESOURCE_EXHAUSTED:
        return ""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return str(info.metadata.get("limit", ""))
    return ""
