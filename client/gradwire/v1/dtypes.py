"""The element types of the contract: one row each, shared by client and server.

``DataType`` enum, torch's name, numpy's name (``ml_dtypes`` supplies those that numpy lacks; there
is none for complex32) and the size of an element. The byte order on the wire is little-endian.
"""

from typing import NamedTuple

from gradwire.v1 import values_pb2


class DtypeRow(NamedTuple):
    """One element type.

    Attributes:
        data_type: Its number in the ``DataType`` enum.
        name: Its name in torch, without ``torch.``.
        numpy_name: Its name for ``numpy.dtype`` once ``ml_dtypes`` is imported.
        itemsize: Bytes of one element.
    """

    data_type: int
    name: str
    numpy_name: str
    itemsize: int


ROWS: tuple[DtypeRow, ...] = (
    DtypeRow(values_pb2.DATA_TYPE_FLOAT32, "float32", "float32", 4),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT64, "float64", "float64", 8),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT16, "float16", "float16", 2),
    DtypeRow(values_pb2.DATA_TYPE_BFLOAT16, "bfloat16", "bfloat16", 2),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E4M3FN, "float8_e4m3fn", "float8_e4m3fn", 1),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E5M2, "float8_e5m2", "float8_e5m2", 1),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E4M3FNUZ, "float8_e4m3fnuz", "float8_e4m3fnuz", 1),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E5M2FNUZ, "float8_e5m2fnuz", "float8_e5m2fnuz", 1),
    DtypeRow(values_pb2.DATA_TYPE_INT8, "int8", "int8", 1),
    DtypeRow(values_pb2.DATA_TYPE_INT16, "int16", "int16", 2),
    DtypeRow(values_pb2.DATA_TYPE_INT32, "int32", "int32", 4),
    DtypeRow(values_pb2.DATA_TYPE_INT64, "int64", "int64", 8),
    DtypeRow(values_pb2.DATA_TYPE_UINT8, "uint8", "uint8", 1),
    DtypeRow(values_pb2.DATA_TYPE_UINT16, "uint16", "uint16", 2),
    DtypeRow(values_pb2.DATA_TYPE_UINT32, "uint32", "uint32", 4),
    DtypeRow(values_pb2.DATA_TYPE_UINT64, "uint64", "uint64", 8),
    DtypeRow(values_pb2.DATA_TYPE_BOOL, "bool", "bool", 1),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX32, "complex32", "complex32", 4),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX64, "complex64", "complex64", 8),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX128, "complex128", "complex128", 16),
)

BY_DATA_TYPE: dict[int, DtypeRow] = {row.data_type: row for row in ROWS}
BY_NAME: dict[str, DtypeRow] = {row.name: row for row in ROWS}
