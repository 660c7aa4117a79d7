"""Lines 1 to 4 and 6: a net trained in each way that there is."""

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import fmean, median

from gradwire_benchmarks.echo import Echo
from gradwire_benchmarks.lines import SMALL_BYTES
from gradwire_benchmarks.local import LocalLoader, LocalLoop, LocalVerbs
from gradwire_benchmarks.measuring import Contender, Sample
from gradwire_benchmarks.nets import Net
from gradwire_benchmarks.remote import UnaryVerbs
from gradwire_benchmarks.workbench import Workbench

SUITE = "training"


def measure_training(bench: Workbench) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the samples of all rounds with each net."""
    for net in bench.plan.nets:
        with ExitStack() as stack:
            yield net.name, bench.plan.measure(list(_contenders(bench, net, stack)))


def _contenders(bench: Workbench, net: Net, stack: ExitStack) -> Iterator[Contender]:
    """Yields what the lines need."""

    def wanted(name: str) -> bool:
        return bench.plan.wants(SUITE, name)

    if wanted("local loop"):
        yield LocalLoop(bench.torch, net)
    if wanted("local loader"):
        yield LocalLoader(bench.torch, net)
    if wanted("sdk loop/100"):
        yield bench.sdk_loop(net, 100)
    if wanted("fast sdk loop/100"):
        yield bench.sdk_loop(net, 100, exact=False)
    if wanted("train"):
        yield bench.train_call(net, exact=True)
    if wanted("fast train"):
        yield bench.train_call(net, exact=False)
    if wanted("sdk loop/1"):
        yield bench.sdk_loop(net, 1)
    if wanted("echo small"):
        yield Echo(bench.echo_channel, {"small": (SMALL_BYTES, SMALL_BYTES)}, fmean)
    if wanted("unary"):
        unary = UnaryVerbs(bench.exact.channel, net)
        stack.callback(unary.close)
        yield unary
        yield Echo(bench.echo_channel, unary.sizes, median)
        yield LocalVerbs(bench.torch, net)
