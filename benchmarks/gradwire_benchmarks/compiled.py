"""Contenders whose steps the server compiles: they are measured once that is done."""

import time
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from gradwire_benchmarks.measuring import STEPS, Contender, Sample

METRIC = "gradwire_compiled_steps"
PATIENCE_SECONDS = 300.0
_POLL_SECONDS = 1.0


class Metrics:
    """The metrics of a server.

    Args:
        address: ``HOST:PORT`` of the server's metrics.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def outcomes(self) -> dict[str, float]:
        """Returns how often steps had each outcome of being compiled."""
        connection = HTTPConnection(self._address, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {
            sample.labels["outcome"]: sample.value
            for family in text_string_to_metric_families(text)
            if family.name == METRIC
            for sample in family.samples
        }


class Compiled:
    """A contender that runs until its steps are compiled, or stay eager, before it is measured.

    Args:
        contender: The contender.
        metrics: Tell whether they are.
    """

    def __init__(self, contender: Contender, metrics: Metrics) -> None:
        self._contender = contender
        self._metrics = metrics
        self._is_ready = False

    def burst(self, num_steps: int) -> Sample:
        """Takes steps; returns what they took."""
        if not self._is_ready:
            self._prepare()
            self._is_ready = True
        return self._contender.burst(num_steps)

    def _prepare(self) -> None:
        before = self._metrics.outcomes()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self._contender.burst(STEPS)
            now = self._metrics.outcomes()
            changed = {name for name, count in now.items() if count > before.get(name, 0.0)}
            if changed - {"recorded"}:
                return
            # The compiler needs a core, too.
            time.sleep(_POLL_SECONDS)
        tqdm.write(
            f"No step was compiled within {PATIENCE_SECONDS:.0f} s; it is measured as it is."
        )
