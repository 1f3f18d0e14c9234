"""``report.html`` in a real browser: the slider moves, tables sort, nothing is fetched, nothing escapes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricate import SPARSE, fabricate_run

from robustness.analysis.attacks import Attacks
from robustness.analysis.findings import Findings
from robustness.analysis.looks import family_look
from robustness.analysis.page import headline, to_embedded_json, write_page

HOSTILE = '</script><img src="http://127.0.0.1:9/x" onerror="document.title=1">'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made-up run whose texts try to break out of it."""
    folder = tmp_path_factory.mktemp("run")
    law = {"format": "sdnet-robustness/residual-law/1", "r_squared": 0.5, "provenance": {"data": {"n": 9}}}
    law |= {"law": {"slope": 0.004, "intercept": 0.1, "lowest": 0.1, "highest": 0.5}}
    point = {"noise": "shot_noise", "severity": 1, "residual": 50.0, "lam": 0.3, "fitted": True}
    point |= {"accuracy": 0.8, "trained_accuracy": 0.7}
    more = ({"severity": 2, "residual": 60.0, "lam": 0.4}, {"severity": 3, "residual": 70.0, "lam": 0.6})
    points = [{**point, **change} for change in ({}, *more, {"noise": "gaussian_noise"})]
    law |= {"points": points}
    data = {"name": "made-up", "title": HOSTILE, "split": "test", "n": 40, "fingerprint": "f", "source": "generated"}
    run = fabricate_run(folder, law=law, record={"data": {**data, "classes": list("abcd")}}, n=40)
    random = np.random.default_rng(0)
    run.directory.write_samples(
        {
            "titles": np.array(json.dumps([["clean", 0], ["contrast", 5]])),
            "classes": np.array(json.dumps(["cat", HOSTILE])),
            "model": np.array(SPARSE),
            "lambdas": np.array([0.1, 0.5]),
            "perturbed": random.integers(0, 255, (2, 2, 8, 8, 3), dtype=np.uint8),
            "reconstructed": random.integers(0, 255, (2, 2, 2, 8, 8, 3), dtype=np.uint8),
        }
    )
    write_page(Findings.of(run))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Headless Chromium, driven by its own chromedriver."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    for flag in ("headless", "no-sandbox", "disable-gpu", "window-size=1280,900", *quiet):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as chrome:
        yield chrome


@pytest.fixture
def opened(browser, page):
    """The browser with the report freshly loaded."""
    browser.get(page.as_uri())
    return browser


def run_script(browser, script):
    return browser.execute_script(f"return {script}")


def test_the_slider_moves_every_chart_and_the_images(opened):
    watched = {
        "tiles": "document.querySelector('#tiles').textContent",
        "corruptions": "document.querySelector('#corruptions circle.moving').style.transform",
        "curves": "document.querySelector('#curves circle.moving').style.transform",
        "samples": "document.querySelectorAll('#samples .row')[2].querySelector('.frame').style.backgroundImage",
        "alternative text": "document.querySelector('#corruptions svg').getAttribute('aria-label')",
        "law": "document.querySelector('#law line.cursor').style.transform",
        "value": "document.querySelector('#lam-value').textContent",
    }
    before = {name: run_script(opened, script) for name, script in watched.items()}
    assert before["value"] == "λ = 0.1", "it starts at the λ of training"
    slider = opened.find_element("id", "lam")
    slider.send_keys("\ue014")
    after = {name: run_script(opened, script) for name, script in watched.items()}
    assert after["value"] == "λ = 0.5"
    assert [name for name in watched if before[name] == after[name]] == []
    opened.find_element("id", "trained").click()
    assert {name: run_script(opened, script) for name, script in watched.items()} == before


def test_the_law_has_a_line_and_a_shape_per_noise(opened):
    assert len(opened.find_elements("css selector", "#law path.line.family")) == 1, "one level makes no line"
    points = opened.find_elements("css selector", "#law > svg > path[fill]")
    assert len(points) == 4
    assert len({(point.get_attribute("fill"), point.get_attribute("d")) for point in points}) == 2
    legend = opened.find_element("css selector", "#law .legend").text
    assert "shot noise: λ = 0.015 r − 0.47, R² = 0.96" in legend
    assert family_look("shot_noise").colour in {point.get_attribute("fill") for point in points}


def test_the_panels_turn_from_lambda_to_severity(opened):
    assert run_script(opened, "document.querySelectorAll('#curves .panel').length") == 3
    opened.find_element("id", "by-severity").click()
    assert run_script(opened, "document.querySelectorAll('#curves .panel').length") == 2, "clean has no severity"
    assert opened.find_element("id", "by-severity").get_attribute("aria-pressed") == "true"


def test_tables_sort_by_numbers_in_both_directions(opened):
    def column(index):
        cells = opened.find_elements("css selector", f"#policies tbody td:nth-child({index})")
        return [float(cell.text.split()[0]) for cell in cells]

    button = opened.find_element("css selector", "#policies th:nth-child(5) button")
    button.click()
    assert column(5) == sorted(column(5))
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(5) == sorted(column(5), reverse=True)
    assert len(set(column(5))) > 2


def test_another_perturbation_keeps_the_order_of_both_tables(opened):
    def heads(table):
        return [head.get_attribute("aria-sort") for head in opened.find_elements("css selector", f"#{table} th")]

    opened.find_element("css selector", "#policies th:nth-child(5) button").click()
    opened.find_element("css selector", "details > summary").click()
    opened.find_element("css selector", "#cells th:nth-child(6) button").click()
    before = heads("policies"), heads("cells")
    assert [table.count("ascending") for table in before] == [1, 1]
    opened.find_element("css selector", "#cell-filter option[value='contrast']").click()
    assert (heads("policies"), heads("cells")) == before
    cells = opened.find_elements("css selector", "#cells tbody tr")
    assert {row.find_element("css selector", "td").text for row in cells} == {"contrast"}
    accuracies = [float(row.find_element("css selector", "td:nth-child(6)").text.split()[0]) for row in cells]
    assert accuracies == sorted(accuracies)
    assert len(set(accuracies)) > 2


def test_the_time_is_that_of_all_cells(opened):
    record = opened.find_element("id", "record").text
    assert "measured in\n33 s of computing, summed over the cells" in record, "11 places × 3 settings of 1 s each"


def test_nothing_is_fetched_and_the_console_stays_empty(opened):
    opened.get_log("performance")
    opened.refresh()
    requests = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"]
    assert urls
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}
    assert opened.get_log("browser") == []


def test_hostile_texts_are_shown_and_not_obeyed(opened, page):
    assert opened.title == "made-up: robustness across λ"
    assert HOSTILE in opened.find_element("css selector", ".lede").text
    assert opened.find_elements("css selector", "img") == []
    text = page.read_text()
    assert HOSTILE not in text
    assert re.findall(r"https?://(?!www\.w3\.org)", text.replace("http://127.0.0.1:9/x", "")) == []


def test_it_fits_a_phone_and_every_control_has_a_name(opened):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    opened.refresh()
    assert run_script(opened, "document.documentElement.scrollWidth") <= 390
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    unnamed = """[...document.querySelectorAll('button, select, input, svg:not([aria-hidden]), .frame')]
        .filter(node => !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length))
        .map(node => node.outerHTML)"""
    assert run_script(opened, unnamed) == []


def test_attacks_have_their_own_section_with_trust_marks(opened, tmp_path):
    assert run_script(opened, "document.querySelector('#attacks-section').hidden")
    attack = {"model": "plain", "perturbation": "pgd", "norm": "linf", "eps": 8 / 255, "threat": "whitebox", "n": 40}
    attack |= {"lam": np.nan, "policy": "", "accuracy": 0.25, "ci_low": 0.1, "ci_high": 0.4}
    attack |= {"trust": "SUSPECT", "trust_reason": "Square beats it"}
    attacks = Attacks(pd.DataFrame([attack]), pd.DataFrame(), pd.DataFrame())
    write_page(dataclasses.replace(Findings.of(fabricate_run(tmp_path)), attacks=attacks))
    opened.get((tmp_path / "report.html").as_uri())
    row = opened.find_element("css selector", "#attacks tbody tr")
    assert " ".join(row.text.split()) == "plain pgd linf 8/255 whitebox – 25.0 [10.0, 40.0] 40 SUSPECT Square beats it"
    assert row.find_element("css selector", ".mark.SUSPECT").is_displayed()


def test_embedded_json_cannot_end_its_element():
    text = to_embedded_json({"a": "</script>", "b": [float("nan"), np.float32(0.5), np.int64(2)], "c": "\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script>", "b": [None, 0.5, 2], "c": "\u2028"}


def test_the_headline_claims_only_what_its_interval_shows(tmp_path):
    def answer(model, perturbation, severity, lam, split, n):
        right = {"plain": 20, 0.1: 30, 0.5: 31}[lam or model]
        return {"correct": np.arange(n) < right, "residual": np.full(n, 100.0)}

    law = {"format": "sdnet-robustness/residual-law/1", "r_squared": 0.5, "provenance": {}, "points": []}
    law |= {"law": {"slope": 0.1, "intercept": 0.1, "lowest": 0.1, "highest": 0.5}}
    text = headline(Findings.of(fabricate_run(tmp_path, answer=answer, law=law)))
    assert text == (
        "Under 2 corruptions sparse keeps 75.0 % accuracy, 25.0 points more than plain; "
        "choosing λ image by image adds nothing measurable."
    )
