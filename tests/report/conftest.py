"""The browser that the tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.browser import BROWSER, Browser


@pytest.fixture(scope="session")
def started_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if BROWSER is None:
        pytest.skip("needs Chromium")
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def browser(started_browser: Browser) -> Iterator[Browser]:
    """The shared browser; a test that sets another window or color scheme leaves it as it was."""
    yield started_browser
    started_browser.send("Emulation.clearDeviceMetricsOverride")
    started_browser.send("Emulation.setEmulatedMedia", features=[])
