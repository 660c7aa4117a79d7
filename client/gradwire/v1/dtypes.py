"""The element types of the contract: one row each, shared by client and server.

``DataType`` enum, torch's name, numpy's name (``ml_dtypes`` supplies those that numpy lacks; there
is none for complex32), the size of an element, and the name that safetensors has for it. The byte
order on the wire is little-endian.
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
        safetensors_name: Its name in files of the format safetensors; empty if it has none there.
    """

    data_type: int
    name: str
    numpy_name: str
    itemsize: int
    safetensors_name: str = ""


ROWS: tuple[DtypeRow, ...] = (
    DtypeRow(values_pb2.DATA_TYPE_FLOAT32, "float32", "float32", 4, "F32"),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT64, "float64", "float64", 8, "F64"),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT16, "float16", "float16", 2, "F16"),
    DtypeRow(values_pb2.DATA_TYPE_BFLOAT16, "bfloat16", "bfloat16", 2, "BF16"),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E4M3FN, "float8_e4m3fn", "float8_e4m3fn", 1, "F8_E4M3"),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E5M2, "float8_e5m2", "float8_e5m2", 1, "F8_E5M2"),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E4M3FNUZ, "float8_e4m3fnuz", "float8_e4m3fnuz", 1),
    DtypeRow(values_pb2.DATA_TYPE_FLOAT8_E5M2FNUZ, "float8_e5m2fnuz", "float8_e5m2fnuz", 1),
    DtypeRow(values_pb2.DATA_TYPE_INT8, "int8", "int8", 1, "I8"),
    DtypeRow(values_pb2.DATA_TYPE_INT16, "int16", "int16", 2, "I16"),
    DtypeRow(values_pb2.DATA_TYPE_INT32, "int32", "int32", 4, "I32"),
    DtypeRow(values_pb2.DATA_TYPE_INT64, "int64", "int64", 8, "I64"),
    DtypeRow(values_pb2.DATA_TYPE_UINT8, "uint8", "uint8", 1, "U8"),
    DtypeRow(values_pb2.DATA_TYPE_UINT16, "uint16", "uint16", 2, "U16"),
    DtypeRow(values_pb2.DATA_TYPE_UINT32, "uint32", "uint32", 4, "U32"),
    DtypeRow(values_pb2.DATA_TYPE_UINT64, "uint64", "uint64", 8, "U64"),
    DtypeRow(values_pb2.DATA_TYPE_BOOL, "bool", "bool", 1, "BOOL"),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX32, "complex32", "complex32", 4),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX64, "complex64", "complex64", 8, "C64"),
    DtypeRow(values_pb2.DATA_TYPE_COMPLEX128, "complex128", "complex128", 16),
)

BY_DATA_TYPE: dict[int, DtypeRow] = {row.data_type: row for row in ROWS}
BY_NAME: dict[str, DtypeRow] = {row.name: row for row in ROWS}
SAFETENSORS_NAMES: dict[str, str] = {
    row.name: row.safetensors_name for row in ROWS if row.safetensors_name
}
"""What safetensors calls the element types that it has, by torch's name."""
