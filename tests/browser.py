"""A browser without a window."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

TIMEOUT_SECONDS = 60.0

T = TypeVar("T")

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1320,1180",
    "--force-device-scale-factor=1.5",
)


class Browser:
    """A browser that shows one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Shows a page."""
        self._driver.get(url)

    def find(self, selector: str) -> list[WebElement]:
        """Returns the elements of a CSS selector that are shown."""
        found = self._driver.find_elements(By.CSS_SELECTOR, selector)
        return [each for each in found if each.is_displayed()]

    def text(self, selector: str) -> str:
        """Returns the text of the only element of a CSS selector, once there is one."""
        (element,) = self.until(lambda: self.find(selector))
        return str(element.text)

    def until(self, condition: Callable[[], T]) -> T:
        """Waits until something is true, and returns it."""
        wait = WebDriverWait(self._driver, TIMEOUT_SECONDS, poll_frequency=0.1)
        return wait.until(lambda _: condition())

    def run(self, script: str) -> Any:
        """Runs JavaScript in the page, and returns what it returns."""
        return self._driver.execute_script(script)

    def prefer_dark(self) -> None:
        """Is, from now on, the browser of somebody who likes it dark."""
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)

    def save_screenshot(self, path: Path) -> None:
        """Writes what the window shows as PNG."""
        assert self._driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """Returns the errors of the browser's console, such as broken policies, since asked."""
        log = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts a browser; without one the test skips, or fails where one must be there."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        reason = f"{' and '.join(missing)}: not on the PATH"
        if os.environ.get("GRADWIRE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"] or ""
    for option in _OPTIONS:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(paths["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
