import sys
from pathlib import Path

import pytest

from gradwire_server.workers import devices
from gradwire_server.workers.devices import NoSuchDeviceError, find_devices, parse_devices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("cuda", ("cuda",)),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("cpu,cuda", ("cpu", "cuda")),
    ],
)
def test_devices_are_parsed(text: str, expected: tuple[str, ...]) -> None:
    assert parse_devices(text) == expected


@pytest.mark.parametrize(
    "text", ["", "gpu", "cuda:", "cuda:x", "auto,cpu", "cpu,cpu", "cuda,cuda:0", "cpu:0"]
)
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="device"):
        parse_devices(text)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that there is a CUDA driver, and torch that sees two devices."""
    monkeypatch.setattr(devices, "_DRIVER_FILES", (Path(sys.executable),))
    monkeypatch.setattr(devices, "_PROBE", "print(2)")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("auto", ("cuda:0", "cuda:1")),
        ("cpu", ("cpu",)),
        ("cuda", ("cuda:0", "cuda:1")),
        ("cuda:1", ("cuda:1",)),
        ("cpu,cuda", ("cpu", "cuda:0", "cuda:1")),
    ],
)
async def test_devices_are_found_by_asking_torch_elsewhere(
    wanted: str, expected: tuple[str, ...]
) -> None:
    assert await find_devices(parse_devices(wanted)) == expected


@pytest.mark.usefixtures("driver")
async def test_a_device_beyond_those_there_are_is_refused() -> None:
    with pytest.raises(NoSuchDeviceError, match="cuda:2: torch sees 2 CUDA"):
        await find_devices(("cuda:2",))


async def test_without_a_driver_torch_is_not_asked_and_auto_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_DRIVER_FILES", (Path("/nonexistent"),))
    monkeypatch.setattr(devices, "_PROBE", "raise SystemExit('asked')")
    assert await find_devices(("auto",)) == ("cpu",)
    with pytest.raises(NoSuchDeviceError):
        await find_devices(("cuda",))


async def test_a_torch_that_cannot_tell_means_no_cuda_devices(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "_DRIVER_FILES", (Path(sys.executable),))
    monkeypatch.setattr(devices, "_PROBE", "raise SystemExit(1)")
    assert await find_devices(("auto",)) == ("cpu",)
