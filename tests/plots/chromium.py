"""A headless Chromium for tests of pages, driven by selenium; skips where either is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--window-size=1300,1000",
)


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A ``selenium.webdriver.Chrome`` with a profile folder of its own.

    Its log holds all of the pages' errors; it may load files and pages of this machine.
    """
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install -e '.[browser]'"
    )
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        found.set_script_timeout(60)
        yield found
    finally:
        found.quit()


def wait_for(found: Any, condition: str, *arguments: Any, timeout_s: float = 60.0) -> None:
    """Wait until a JavaScript condition holds."""
    from selenium.webdriver.support.ui import WebDriverWait

    until: Callable[[Any], bool] = lambda page: bool(page.execute_script(f"return {condition}", *arguments))  # noqa: E731
    WebDriverWait(found, timeout_s, poll_frequency=0.05).until(until, f"never: {condition}")


def errors(found: Any) -> list[str]:
    """What the pages complained of since the last call."""
    return [entry["message"] for entry in found.get_log("browser") if entry["level"] == "SEVERE"]
