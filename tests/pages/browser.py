"""A headless Chromium that opens pages from disk; needs Chromium, its driver, and selenium."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def _executable(*names: str) -> Optional[str]:
    return next(filter(None, map(shutil.which, names)), None)


def required_browser() -> Any:
    """The module that drives a browser; skips where there is none, and says what is missing."""
    if not _executable(*CHROMIUM) or not _executable("chromedriver"):
        reason = "no Chromium here with its chromedriver: apt-get install chromium chromium-driver"
    else:
        try:
            from selenium import webdriver

            return webdriver
        except ImportError:
            reason = "no selenium here: pip install caffe_merge[browser]"
    if os.environ.get("CAFFE_MERGE_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """One page in the browser."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, path: Path) -> None:
        """Open the page at ``path``."""
        self._driver.get(path.resolve().as_uri())

    def size(self, width: int, height: int) -> None:
        """Make it a window of so many pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Have the system be ``dark`` or ``light``."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *values: Any) -> Any:
        """What ``script`` returns."""
        return self._driver.execute_script(script, *values)

    def click(self, selector: str) -> None:
        """Click the first element, as a mouse does."""
        from selenium.webdriver.common.by import By

        element = self._driver.find_element(By.CSS_SELECTOR, selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def write(self, selector: str, text: str) -> None:
        """Write into a field."""
        from selenium.webdriver.common.by import By

        self._driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def text(self, selector: str) -> str:
        """The text of the first element."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    @property
    def console(self) -> List[str]:
        """What the browser complained of."""
        return [entry["message"] for entry in self._driver.get_log("browser")]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser for several tests."""
    webdriver = required_browser()
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.binary_location = _executable(*CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(_executable("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
