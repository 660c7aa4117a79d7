"""The web page of a real server, as browsers and others ask for it."""

import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import gradwire
from gradwire import nn, optim
from gradwire.current import push_session
from gradwire.run import Run
from gradwire.session import Session
from gradwire.transport.tls import Tls
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry
from gradwire_server.config import SettingsError, load_settings
from gradwire_server.page.site import STATIC
from tests.browser import Browser, browser
from tests.certificates import Authority
from tests.processes import ServerProcess, free_port

ROOT = Path(__file__).resolve().parents[2]
TOKENS = {"anna": "gw_of-anna", "bert": "gw_of-bert"}


class Page:
    """A server with a page, and two tenants."""

    def __init__(self, server: ServerProcess, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def call(self, method: str, request: Any = None, **headers: str) -> tuple[int, Any]:
        """Makes a call as the page does; returns the HTTP status and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", **headers}
        connection.request("POST", f"/rpc/{method}", json.dumps(request or {}), headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, json.loads(answer)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bearer(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[tenant]}"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    tokens = folder / "tokens"
    tokens.write_text(
        "".join(
            TokenEntry.of(token, tenant, Role.USER, None).line() + "\n"
            for tenant, token in TOKENS.items()
        )
    )
    port = free_port()
    # One thread: others on this machine would make several wait for each other.
    options: dict[str, Any] = {
        "page_address": f"127.0.0.1:{port}",
        "tokens_file": tokens,
        "threads": 1,
    }
    with ServerProcess(folder, **options) as server:
        yield Page(server, port)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def sign_in(chromium: Browser, page: Page, tenant: str) -> None:
    chromium.open(page.url)
    chromium.run("sessionStorage.clear()")
    chromium.open(page.url)
    (field,) = chromium.until(lambda: chromium.find("#token"))
    field.send_keys(TOKENS[tenant])
    (button,) = chromium.find("#sign-in button")
    button.click()
    chromium.until(lambda: chromium.find("#dashboard"))


def test_a_reader_signs_in_and_sees_workers_and_the_own_sessions(
    page: Page, chromium: Browser
) -> None:
    with (
        gradwire.connect(page.server.address, token=TOKENS["anna"]) as session,
        gradwire.connect(page.server.address, token=TOKENS["bert"]) as other,
    ):
        sign_in(chromium, page, "anna")

        chromium.until(lambda: chromium.text("#state") == "serving")
        assert "worker-0" in chromium.text("#workers")
        assert session.name in chromium.text("#sessions")
        assert other.name not in chromium.run("return document.documentElement.outerHTML")
    chromium.until(lambda: chromium.find("#no-sessions"))
    # The browser also tells of answers such as 401, by their addresses.
    assert [each for each in chromium.complaints() if "/rpc/" not in each] == []


def painted(chromium: Browser) -> int:
    """Returns how many pixels of the chart have a color of a curve, which the axes have not."""
    return int(
        chromium.run("""
            const canvas = document.querySelector("#chart canvas");
            if (!canvas) return 0;
            const { width, height } = canvas;
            const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            let count = 0;
            for (let i = 0; i < pixels.length; i += 4) {
              const [red, green, blue, alpha] = pixels.slice(i, i + 4);
              count += alpha > 0 && Math.max(red, green, blue) - Math.min(red, green, blue) > 90;
            }
            return count;
        """)
    )


def train(session: Session, name: str, hidden: int, epochs: int) -> Run:
    push_session(session)
    pixels, labels = load_digits(return_X_y=True)
    gradwire.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    run: Run = gradwire.train(
        model,
        ((pixels / 16).astype(np.float32), labels),
        loss=nn.CrossEntropyLoss(),
        optimizer=optim.Adam(model.parameters(), lr=1e-3),
        epochs=epochs,
        batch_size=64,
        name=name,
        progress=False,
        wait=False,
    )
    return run


def test_runs_draw_their_losses_live_and_a_click_shows_the_events(
    page: Page, chromium: Browser
) -> None:
    with gradwire.connect(page.server.address, token=TOKENS["anna"]) as session:
        train(session, "digits, narrow", hidden=16, epochs=40)
        run = train(session, "digits", hidden=64, epochs=10_000)
        item = f".run[title='{run.name}']"
        chromium.prefer_dark()
        sign_in(chromium, page, "anna")

        chromium.until(lambda: "running" in chromium.text(item))
        chromium.until(lambda: painted(chromium) > 200)
        before = step_shown(chromium, item)
        chromium.until(lambda: step_shown(chromium, item) > before)

        chromium.find(item)[0].click()
        chromium.until(lambda: "progress" in chromium.text("#events"))
        assert "digits" in chromium.text("#log")
        (logarithmic,) = chromium.find("#logarithmic")
        logarithmic.click()
        chromium.until(lambda: painted(chromium) > 200)
        if path := os.environ.get("GRADWIRE_SCREENSHOT"):
            chromium.until(lambda: step_shown(chromium, item) > 700)
            chromium.save_screenshot(Path(path))

        run.cancel()
        chromium.until(lambda: "cancelled" in chromium.text(item))
        chromium.until(lambda: "ended" in chromium.text("#events"))
        assert page.call("RunService/ListRuns", **bearer("bert")) == (200, {})
        answered = page.call("RunService/WatchRun", {"name": run.name}, **bearer("bert"))
        assert (answered[0], answered[1]["code"]) == (404, "NOT_FOUND")
    assert [each for each in chromium.complaints() if "/rpc/" not in each] == []


def step_shown(chromium: Browser, item: str) -> int:
    """Returns the step of a run that the page shows."""
    (number,) = re.findall(r"step ([\d,]+) of", chromium.text(item))
    return int(number.replace(",", ""))


def test_a_reader_with_a_wrong_token_is_asked_again(page: Page, chromium: Browser) -> None:
    chromium.open(page.url)
    chromium.run("sessionStorage.clear()")
    chromium.open(page.url)
    (field,) = chromium.until(lambda: chromium.find("#token"))
    field.send_keys("gw_of-nobody")
    (button,) = chromium.find("#sign-in button")
    button.click()

    chromium.until(lambda: "does not know the token" in chromium.text("#sign-in-error"))
    assert chromium.find("#dashboard") == []
    chromium.complaints()


def test_who_signs_out_leaves_nothing_in_the_tab(page: Page, chromium: Browser) -> None:
    sign_in(chromium, page, "anna")
    (button,) = chromium.find("#sign-out")
    button.click()

    chromium.until(lambda: chromium.find("#sign-in"))
    assert chromium.run("return sessionStorage.length") == 0
    assert chromium.find("#dashboard") == []
    chromium.complaints()


def test_the_calls_of_the_page_want_the_token_of_the_rpcs(page: Page) -> None:
    status, answer = page.call("SessionService/ListSessions")
    assert (status, answer["code"]) == (401, "UNAUTHENTICATED")

    with gradwire.connect(page.server.address, token=TOKENS["anna"]) as session:
        status, answer = page.call("SessionService/ListSessions", **bearer("anna"))
        assert status == 200
        assert [each["name"] for each in answer["sessions"]] == [session.name]
        assert page.call("SessionService/ListSessions", **bearer("bert")) == (200, {})


@pytest.mark.parametrize(
    ("method", "request_body", "headers", "status", "code"),
    [
        ("SessionService/CreateSession", {}, {}, 501, "UNIMPLEMENTED"),
        ("ModelService/FetchTensors", {}, {}, 501, "UNIMPLEMENTED"),
        ("SessionService/ListSessions", {"pageSize": "x"}, {}, 400, "INVALID_ARGUMENT"),
        ("SessionService/ListSessions", {"pageSize": -1}, {}, 400, "INVALID_ARGUMENT"),
        ("SessionService/ListSessions", {"nonsense": 1}, {}, 400, "INVALID_ARGUMENT"),
        (
            "SessionService/ListSessions",
            {},
            {"content-type": "text/plain"},
            400,
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_over_http_there_are_only_the_calls_of_the_page(
    page: Page, method: str, request_body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    answered, answer = page.call(method, request_body, **bearer("anna") | headers)
    assert (answered, answer["code"]) == (status, code)


def test_the_page_brings_all_it_needs_and_may_load_nothing_else(page: Page) -> None:
    response = page.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert b"https://" not in response.body  # type: ignore[attr-defined]
    assert page.get("/uPlot.LICENSE").status == 200


@pytest.mark.parametrize("path", ["/../site.py", "/%2e%2e/site.py", "/..%2fsite.py", "/absent"])
def test_no_other_file_is_served(page: Page, path: str) -> None:
    assert page.get(path).status in {403, 404}


def test_without_tokens_only_readers_who_name_this_host_are_answered(tmp_path: Path) -> None:
    port = free_port()
    with ServerProcess(tmp_path, page_address=f"127.0.0.1:{port}") as server:
        page = Page(server, port)
        assert page.call("SessionService/ListSessions")[0] == 200
        assert page.get("/", host="localhost").status == 200
        assert page.get("/", host=f"[::1]:{port}").status == 200
        # As a name of somebody else's would, after it was made to lead here.
        assert page.get("/", host=f"evil.example:{port}").status == 421


def test_over_tls_the_page_shows_the_certificate_that_the_files_hold_now(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    port = free_port()

    def served() -> str:
        context = ssl.create_default_context(cafile=str(authority.file))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert()
        connection.close()
        assert certificate is not None
        return str(certificate["serialNumber"])

    with ServerProcess(
        tmp_path,
        address=f"127.0.0.1:{free_port()}",
        tls=Tls(ca_file=str(authority.file)),
        tls_certificate_file=files.certificate,
        tls_key_file=files.key,
        page_address=f"127.0.0.1:{port}",
    ):
        first = served()
        authority.issue("server")
        wait_until(lambda: served() != first)


def test_a_page_that_other_hosts_can_reach_is_protected_as_the_rpcs_are() -> None:
    with pytest.raises(SettingsError, match=r"page_address .* there is no TLS"):
        load_settings(page_address="0.0.0.0:8080", token="secret")
    with pytest.raises(SettingsError, match=r"page_address .* there is no token"):
        load_settings(page_address="0.0.0.0:8080", plaintext=True)
    load_settings(page_address="0.0.0.0:8080", plaintext=True, token="secret")


def test_the_chart_library_is_the_one_that_npm_has() -> None:
    package = ROOT / "node_modules" / "uplot"
    for shipped, original in (
        ("uPlot.iife.min.js", "dist/uPlot.iife.min.js"),
        ("uPlot.min.css", "dist/uPlot.min.css"),
        ("uPlot.LICENSE", "LICENSE"),
    ):
        assert (STATIC / shipped).read_bytes() == (package / original).read_bytes()
