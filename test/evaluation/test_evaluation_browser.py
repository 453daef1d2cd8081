"""The page in a real browser: from a cell of the confusion to the pixels of a frame, by mouse and by keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from samseg_ros.evaluation.evaluation_report import write_evaluation_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The browser must reach for nothing but the page.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is absent: pip install samseg_ros[test]")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: neither chromium nor google-chrome with chromedriver is on PATH")
    os.environ["SE_OFFLINE"] = "true"  # selenium downloads nothing
    options = selenium.ChromeOptions()
    options.binary_location = program
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    opened.set_script_timeout(60)
    yield opened
    opened.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path, toys: ModuleType) -> Any:
    """The report of two runs, one of them under stress; in the second, frame 3 has 6 unlabelled pixels."""
    lost = toys.TRUTH.copy()
    lost[:2, :3] = 255
    masks = {"a": toys.MASKS, "<i>b</i>": [toys.TRUTH, toys.TRUTH, toys.TRUTH, lost]}
    runs = [toys.scored(model, of_model) for model, of_model in masks.items()]
    fog = replace(runs[0], corruption="fog", severity=3)
    write_evaluation_report(tmp_path / "report.html", [*runs, fog], toys.picture_of(masks))
    browser.get((tmp_path / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []  # no error, nothing refused
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []


def _cell(page: Any, run: int, cell: str) -> Any:
    return page.find_elements("css selector", ".confusion")[run].find_element(
        "css selector", f".heat [data-cell='{cell}']"
    )


def _heading(page: Any) -> str:
    return str(page.find_element("css selector", ".viewer h3").text)


def _frames(page: Any) -> list[str]:
    return [article.get_attribute("data-frame") for article in page.find_elements("css selector", ".frame")]


def _drawn(page: Any, frame: str) -> dict[str, list[int]]:
    """Wait until the panels are drawn; return of each how many pixels have which opacity: [none, some, full]."""
    found: dict[str, list[int]] = page.execute_async_script(
        """
        const done = arguments[1], started = Date.now();
        (function look() {
          const panels = [...document.querySelectorAll(`.frame[data-frame="${arguments[0]}"] .panel`)];
          const canvases = panels.flatMap(p => [...p.querySelectorAll("canvas")]);
          const images = panels.map(p => p.querySelector("img"));
          const ready = canvases.every(c => c.dataset.drawn) && images.every(i => i.complete && i.naturalWidth === 32);
          if (!ready && Date.now() - started < 50000) return setTimeout(() => look.apply(null, arguments), 50);
          done(Object.fromEntries(canvases.map(c => {
            const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, counts = [0, 0, 0];
            for (let i = 3; i < data.length; i += 4) counts[data[i] === 255 ? 2 : data[i] ? 1 : 0]++;
            return [c.closest(".panel").innerText.trim(), counts];
          })));
        }).apply(null, arguments);
        """,
        frame,
    )
    return found


def test_a_click_on_a_cell_shows_the_frames_with_the_most_pixels_of_it(page: Any) -> None:
    assert _heading(page) == "Worst frames of a" and _frames(page) == ["3", "2", "1", "0"]
    _cell(page, 0, "0,1").click()
    assert _heading(page) == "road → <b>car</b>: 144 px, 9.4 % of road, in 3 frames; those with the most first"
    assert _frames(page) == ["3", "2", "1"]
    drawn = _drawn(page, "3")
    assert set(drawn) == {"ground truth", "mask, a", "road → <b>car</b>", "mask, <i>b</i>"}
    assert drawn["road → <b>car</b>"][2] == 72  # solid: the confused pixels themselves
    assert drawn["ground truth"] == [0, 24 * 32, 0]
    assert drawn["mask, <i>b</i>"] == [6, 24 * 32 - 6, 0]  # where nothing is said, nothing is painted
    assert page.find_elements("css selector", ".viewer b, .viewer i:not(.swatch), .tabs i") == []


def test_the_other_run_has_a_confusion_of_its_own(page: Any) -> None:
    _cell(page, 0, "0,1").click()
    page.find_elements("css selector", "[data-run]")[1].click()
    shown = [table.is_displayed() for table in page.find_elements("css selector", ".heat")]
    assert shown == [False, True]
    assert _heading(page) == "road → <b>car</b>: no pixel in any frame" and _frames(page) == []
    _cell(page, 1, "0,3").click()
    assert _frames(page) == ["3"] and _drawn(page, "3")["road → unlabelled"][2] == 6
    page.find_element("css selector", "[data-frames=best]").click()
    assert _heading(page) == "Best frames of <i>b</i>" and len(_frames(page)) == 4


def test_the_worst_frames_show_every_wrong_pixel(page: Any) -> None:
    assert _drawn(page, "2")["wrong pixels"][2] == 48


def test_cells_are_reached_by_arrow_keys_and_opened_by_enter(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    first = _cell(page, 0, "0,0")
    assert first.get_attribute("tabindex") == "0"
    first.send_keys(Keys.ARROW_DOWN)
    page.switch_to.active_element.send_keys(Keys.ARROW_UP)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    active = page.switch_to.active_element
    assert active.get_attribute("data-cell") == "0,1"
    active.send_keys(Keys.ENTER)
    assert _frames(page) == ["3", "2", "1"]
    assert active.get_attribute("aria-pressed") == "true" and active.get_attribute("tabindex") == "0"


def test_tables_turn_to_another_grouping(page: Any) -> None:
    buttons = page.find_elements("css selector", "[data-tab]")
    sensors = next(button for button in buttons if button.text == "sensors fused")
    sensors.click()
    panels = sensors.find_element("xpath", "ancestor::section").find_elements("css selector", "[data-panel]")
    assert [panel.is_displayed() for panel in panels] == [False, True]
