"""Drives Dagster's pages in headless Chromium, by the texts they show."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from st_pipelines_tests.deadlines import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1600,1100",
)


class Browser:
    """A browser window that is open on one server."""

    def __init__(self, url: str, profile: Path) -> None:
        assert CHROMIUM
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        self._url = url
        self._driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def close(self) -> None:
        self._driver.quit()

    def open(self, path: str) -> None:
        self._driver.get(self._url + path)

    @property
    def text(self) -> str:
        return self._driver.find_element(By.TAG_NAME, "body").text

    def click(self, text: str) -> None:
        """Clicks the button with this text as soon as it is enabled."""
        self.wait(f"button {text!r}", lambda: self._press(text))

    def write(self, text: str) -> None:
        """Replaces the text of the dialog's only input."""
        self.wait("input", lambda: self._type(text))

    def switch(self) -> None:
        """Toggles the page's only switch."""
        self.wait("switch", lambda: self._driver.find_elements(By.CSS_SELECTOR, _SWITCH))
        self._driver.execute_script(f"document.querySelector('{_SWITCH}').click()")

    def switched_on(self) -> bool:
        return self._driver.find_element(By.CSS_SELECTOR, _SWITCH).is_selected()

    def wait_for(self, text: str, *, reload: bool = False) -> None:
        """Waits until the page shows a text; with `reload`, keeps reloading it."""

        def shown() -> bool:
            if text in self.text:
                return True
            if reload:
                self._driver.refresh()
                time.sleep(2)
            return False

        self.wait(f"text {text!r}", shown)

    def wait(self, what: str, found: Callable[[], object]) -> object:
        def on_page() -> object:
            with contextlib.suppress(WebDriverException):  # the page was being redrawn
                return found()
            return None

        try:
            return wait_until(on_page, what, interval=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error} on a page that says:\n{self.text}") from None

    def save(self, file: Path) -> None:
        self._driver.save_screenshot(str(file))

    def _press(self, text: str) -> bool:
        for button in self._driver.find_elements(By.TAG_NAME, "button"):
            if button.text == text and button.is_enabled():
                button.click()
                return True
        return False

    def _type(self, text: str) -> bool:
        field = self._driver.find_element(By.CSS_SELECTOR, _INPUT)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.ENTER)
        return field.get_attribute("value") == text


_SWITCH = "input[type=checkbox]"
_INPUT = "[role=dialog] input:not([type=checkbox])"
