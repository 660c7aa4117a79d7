from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RoutingKey(_message.Message):
    __slots__ = ("name", "request_id", "seq")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    seq: int
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class ExecuteKey(_message.Message):
    __slots__ = ("name", "seq", "acknowledged_seq", "traceparent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    seq: int
    acknowledged_seq: int
    traceparent: str
    def __init__(self, name: _Optional[str] = ..., seq: _Optional[int] = ..., acknowledged_seq: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...
