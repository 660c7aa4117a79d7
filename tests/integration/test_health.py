"""Health checks at an address of their own, as what watches containers asks for them."""

import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gradwire.transport.tls import Tls
from gradwire.v1 import server_pb2, server_pb2_grpc
from tests.certificates import Authority
from tests.processes import ServerProcess, free_port

SERVING = health_pb2.HealthCheckResponse.SERVING


def test_they_need_no_certificate_where_all_else_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    health_address = f"127.0.0.1:{free_port()}"
    with ServerProcess(
        tmp_path,
        address=f"127.0.0.1:{free_port()}",
        tls=Tls(ca_file=str(authority.file)),
        tls_certificate_file=files.certificate,
        tls_key_file=files.key,
        health_address=health_address,
    ):
        with grpc.insecure_channel(health_address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="gradwire.v1.ModelService"), timeout=60
            )
            assert any(response.status == SERVING for response in watched)
            watched.cancel()
        told = subprocess.run(
            [sys.executable, "-m", "gradwire_server", "health", "--address", health_address],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert (told.returncode, told.stdout) == (0, f"{health_address}: SERVING\n")


def test_nothing_else_is_answered_there(tmp_path: Path) -> None:
    health_address = f"127.0.0.1:{free_port()}"
    with (
        ServerProcess(tmp_path, health_address=health_address),
        grpc.insecure_channel(health_address) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
            server_pb2.GetServerInfoRequest(), timeout=30
        )

    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
