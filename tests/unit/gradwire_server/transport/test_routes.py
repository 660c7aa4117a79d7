from google.protobuf.descriptor import MethodDescriptor

from gradwire_server.access.identity import Role
from gradwire_server.transport.routes import READS, ROUTES, SERVICES, Route, needed_role

METHODS = {
    f"{service.name}.{method.name}": method for service in SERVICES for method in service.methods
}


def has_name(method: MethodDescriptor) -> bool:
    """Whether the request starts as a RoutingKey with a name."""
    field = method.input_type.fields_by_number.get(1)
    return field is not None and field.name == "name"


def test_every_rpc_of_the_contract_has_a_route_and_no_other_has() -> None:
    assert set(ROUTES) == set(METHODS)


def test_method_names_are_unique_because_workers_are_told_only_those() -> None:
    names = [method.name for method in METHODS.values()]
    assert len(names) == len(set(names))


def test_rpcs_that_stream_have_routes_that_do() -> None:
    for name, method in METHODS.items():
        shape = (method.client_streaming, method.server_streaming)
        expected = {
            Route.EXECUTE: (True, True),
            Route.RUN: (False, True),
            Route.UPLOAD: (True, False),
            Route.WATCH: (False, True),
        }
        assert shape == expected.get(ROUTES[name], (False, False)), name


def test_requests_that_are_routed_by_session_begin_with_a_name() -> None:
    for name, route in ROUTES.items():
        if route not in {Route.FRONT, Route.UPLOAD, Route.ANY_WORKER}:
            assert has_name(METHODS[name]), name


def test_who_only_looks_may_call_what_changes_nothing_and_no_more() -> None:
    assert set(METHODS) >= READS
    for name, method in METHODS.items():
        path = f"/{method.containing_service.full_name}/{method.name}"
        looks = method.name.startswith(("Get", "List", "Fetch", "Watch", "Download"))
        assert needed_role(path) is (Role.READ_ONLY if looks else Role.USER), name


def test_looking_into_the_server_needs_an_admin() -> None:
    assert needed_role("/grpc.channelz.v1.Channelz/GetServers") is Role.ADMIN
    assert needed_role("/grpc.reflection.v1.ServerReflection/Info") is Role.READ_ONLY
