"""What several suites need, each started when it is needed first: a server and its peers."""

import tempfile
from contextlib import ExitStack
from functools import cached_property
from typing import Self

import grpc

import gradwire
from gradwire.current import push_session
from gradwire.session import Session
from gradwire.v1 import server_pb2
from gradwire_benchmarks.compiled import Compiled, Metrics
from gradwire_benchmarks.echo import echo_server
from gradwire_benchmarks.local import LocalTorch
from gradwire_benchmarks.measuring import Contender
from gradwire_benchmarks.nets import Net
from gradwire_benchmarks.plan import Plan
from gradwire_benchmarks.remote import SdkLoop, TrainCall
from gradwire_benchmarks.server import BenchServer, free_address


class Workbench:
    """Runs what is needed until the block ends.

    Args:
        plan: What is to be measured.

    Attributes:
        plan: What is to be measured.
        worker: The server's worker; None as long as no suite has needed the server.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.worker: server_pb2.Worker | None = None
        self._stack = ExitStack()
        self._metrics_address = free_address()

    @cached_property
    def server(self) -> BenchServer:
        """A server on a unix socket."""
        server = self._stack.enter_context(
            BenchServer(
                metrics_address=self._metrics_address,
                # A look does not wait for a compiler, nor is it to have one beside it.
                compile_steps=not self.plan.quick,
            )
        )
        self.worker = server.worker
        return server

    @cached_property
    def exact(self) -> Session:
        """An exact session on the server."""
        return self._stack.enter_context(gradwire.connect(self.server.address))

    @cached_property
    def fast(self) -> Session:
        """A session on the server that need not be exact."""
        return self._stack.enter_context(gradwire.connect(self.server.address, exact=False))

    @cached_property
    def torch(self) -> LocalTorch:
        """Local torch, that computes as the server's worker does."""
        return self._stack.enter_context(LocalTorch(self.server.worker))

    @cached_property
    def echo_channel(self) -> grpc.Channel:
        """A channel to a bare server on a unix socket."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        return self._stack.enter_context(echo_server(f"unix:{folder}/echo.sock"))

    def sdk_loop(self, net: Net, read_every: int, *, exact: bool = True) -> Contender:
        """Returns the loop of the SDK; one that need not be exact is compiled before it counts."""
        push_session(self.exact if exact else self.fast)
        loop = SdkLoop(net, read_every, exact=exact)
        return loop if exact else self._compiled(loop)

    def train_call(self, net: Net, *, exact: bool) -> Contender:
        """Returns the loop on the server; one that need not be exact is compiled first."""
        push_session(self.exact)
        call = TrainCall(net, exact=exact)
        return call if exact else self._compiled(call)

    def _compiled(self, contender: Contender) -> Contender:
        if self.plan.quick:
            return contender
        return Compiled(contender, Metrics(self._metrics_address))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
