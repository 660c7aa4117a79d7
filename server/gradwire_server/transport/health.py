"""Health checks, as https://github.com/grpc/grpc/blob/master/doc/health-checking.md has them."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gradwire_server.transport.accepting import make_grpc_server
from gradwire_server.transport.addresses import Address
from gradwire_server.transport.listening import listen
from gradwire_server.transport.routes import SERVICES

SERVICE_NAME: str = health.SERVICE_NAME


class Health:
    """Tells whether the server takes calls: for each service, and for all as the service "".

    Args:
        address: An address of its own, which answers health checks, nothing else, and without TLS:
            what starts and watches containers has no certificates (Kubernetes' gRPC probes speak
            no TLS). None if the server's address is enough.
    """

    def __init__(self, address: Address | None) -> None:
        self.address = address
        self._servicer = health.aio.HealthServicer()
        self._own_server: grpc.aio.Server | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answers health checks on a server too."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Begins to answer, with NOT_SERVING.

        Raises:
            OSError: The own address cannot be listened on.
        """
        await self.set(serving=False)
        if self.address is not None:
            server = make_grpc_server((("grpc.so_reuseport", 0),))
            self.add_to(server)
            self.address = listen(server, self.address)
            self._own_server = server
            await server.start()

    async def set(self, *, serving: bool) -> None:
        """Says whether the server takes calls."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._servicer.set(name, status)

    async def drain(self) -> None:
        """Says NOT_SERVING from now on, whatever is set."""
        await self._servicer.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Answers no more at the own address."""
        if self._own_server is not None and self.address is not None:
            await self._own_server.stop(None)
            if self.address.path is not None:
                self.address.path.unlink(missing_ok=True)
