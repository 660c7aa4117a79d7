"""The part of a module that converts its parameters and buffers to other types and devices."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

from gradwire.nn.state import Stateful
from gradwire.types import DTYPES


class Convertible(Stateful):
    """The part of a module that converts it, and all below it, in place."""

    @abstractmethod
    def modules(self, remove_duplicate: bool = True) -> Iterator[Any]:
        """Yields this module and all below it."""

    def _convert(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Converts what the module itself owns, by a method of torch's modules."""
        for parameter in self._parameters.values():
            if parameter is not None:
                session = parameter._slot.session
                session.record("gradwire.convert", (parameter, method, *args), kwargs, wanted=False)
                parameter._slot.info = None
        for name, buffer in self._buffers.items():
            if buffer is None:
                continue
            if method == "type" or buffer.is_floating_point() or buffer.is_complex():
                self._buffers[name] = getattr(buffer, method)(*args, **kwargs)
            elif "device" in kwargs:
                self._buffers[name] = buffer.to(kwargs["device"])

    def _convert_all(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self:
        for module in self.modules():
            module._convert(method, args, kwargs)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Converts parameters and buffers: a device, a floating point type, both, or a tensor."""
        return self._convert_all("to", args, kwargs)

    def type(self, dst_type: Any) -> Self:
        """Converts all parameters and buffers to an element type."""
        return self._convert_all("type", (dst_type,), {})

    def float(self) -> Self:
        """Converts floating point parameters and buffers to float32."""
        return self.to(DTYPES["float32"])

    def double(self) -> Self:
        """Converts floating point parameters and buffers to float64."""
        return self.to(DTYPES["float64"])

    def half(self) -> Self:
        """Converts floating point parameters and buffers to float16."""
        return self.to(DTYPES["float16"])

    def bfloat16(self) -> Self:
        """Converts floating point parameters and buffers to bfloat16."""
        return self.to(DTYPES["bfloat16"])

    def cpu(self) -> Self:
        """Moves parameters and buffers to the worker's CPU."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Self:
        """Moves parameters and buffers to the worker's CUDA device."""
        return self.to("cuda" if device is None else f"cuda:{device}")
