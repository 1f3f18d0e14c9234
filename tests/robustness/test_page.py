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
import torch
from fabricate import SPARSE, fabricate_run

import robustness
from data_prep import corruption_names, load_images
from robustness.analysis.attacks import Attacks
from robustness.analysis.drawings import family_look
from robustness.analysis.findings import Findings
from robustness.analysis.frames import Run
from robustness.analysis.page import write_page
from robustness.analysis.worst_case import worst_case
from robustness.suite import Suite

HOSTILE = '</script><img src="http://127.0.0.1:9/x" onerror="document.title=1">'


def write_samples(run: Run, model: str = SPARSE, lambdas: tuple[float, ...] = (0.1, 0.5)) -> None:
    """Noise for sample images, reconstructed at these λs."""
    random = np.random.default_rng(0)
    run.directory.write_samples(
        {
            "titles": np.array(json.dumps([["clean", 0], ["contrast", 5]])),
            "classes": np.array(json.dumps(["cat", HOSTILE])),
            "model": np.array(model),
            "lambdas": np.array(lambdas),
            "perturbed": random.integers(0, 255, (2, 2, 8, 8, 3), dtype=np.uint8),
            "reconstructed": random.integers(0, 255, (2, 2, len(lambdas), 8, 8, 3), dtype=np.uint8),
        }
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made-up run whose texts try to break out of it."""
    folder = tmp_path_factory.mktemp("run")
    law = {"format": "sdnet-robustness/residual-law/2", "r_squared": 0.5, "provenance": {"data": {"n": 9}}}
    law |= {"law": {"slope": 0.004, "intercept": 0.1, "lowest": 0.1, "highest": 0.5}}
    point = {"noise": "shot_noise", "severity": 1, "residual": 50.0, "lam": 0.3, "fitted": True}
    point |= {"spread": 0.05, "accuracy": 0.8, "trained_accuracy": 0.7}
    more = ({"severity": 2, "residual": 60.0, "lam": 0.4}, {"severity": 3, "residual": 70.0, "lam": 0.6})
    points = [{**point, **change} for change in ({}, *more, {"noise": "gaussian_noise"})]
    law |= {"points": points}
    data = {"name": "made-up", "title": HOSTILE, "split": "test", "n": 40, "fingerprint": "f", "source": "generated"}
    run = fabricate_run(folder, law=law, record={"data": {**data, "classes": list("abcd")}}, n=40)
    write_samples(run)
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
    assert before["value"] == "λ = 0.1", "it starts at the training λ"
    slider = opened.find_element("id", "lam")
    slider.send_keys("\ue014")
    after = {name: run_script(opened, script) for name, script in watched.items()}
    assert after["value"] == "λ = 0.5"
    assert [name for name in watched if before[name] == after[name]] == []
    opened.find_element("id", "trained").click()
    assert {name: run_script(opened, script) for name, script in watched.items()} == before


def test_at_a_lambda_without_pictures_the_nearest_are_shown_and_named(opened, tmp_path):
    run = fabricate_run(tmp_path, lambdas=(0.1, 0.4, 0.5))
    write_samples(run)
    write_page(Findings.of(run))
    opened.get((tmp_path / "report.html").as_uri())
    row = "document.querySelectorAll('#samples .row')[2]"
    title, picture = f"{row}.querySelector('span').textContent", f"{row}.querySelector('.frame').style.backgroundImage"
    shown = []
    for _ in (0.1, 0.4, 0.5):
        shown.append((run_script(opened, title), run_script(opened, picture)))
        opened.find_element("id", "lam").send_keys("\ue014")
    assert [name for name, _ in shown] == ["A z, λ = 0.1", "A z, λ = 0.5 (nearest)", "A z, λ = 0.5"]
    assert shown[0][1] != shown[1][1] == shown[2][1]


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

    button = opened.find_element("css selector", "#policies th:nth-child(6) button")
    button.click()
    assert column(6) == sorted(column(6))
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(6) == sorted(column(6), reverse=True)
    assert len(set(column(6))) > 2


def test_another_perturbation_keeps_the_order_of_both_tables(opened):
    def heads(table):
        return [head.get_attribute("aria-sort") for head in opened.find_elements("css selector", f"#{table} th")]

    opened.find_element("css selector", "#policies th:nth-child(6) button").click()
    opened.find_element("css selector", "section[aria-labelledby='h-cells'] summary").click()
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


def attack(model, threat, lam, accuracy, **changes):
    """A row of the attack tables at 8/255, of 40 images."""
    row = {"model": model, "perturbation": "pgd", "norm": "linf", "eps": 8 / 255, "threat": threat, "n": 40}
    row |= {"lam": lam, "policy": "", "accuracy": accuracy, "ci_low": accuracy - 0.1, "ci_high": accuracy + 0.1}
    row |= {"trust": "OK", "trust_reason": ""}
    ends = ("", "_low", "_high", "_p", "_trust")
    row |= {f"{name}{end}": np.nan for name in ("gain", "versus") for end in ends}
    return {**row, **changes}


ATTACKS = [
    attack("sparse", "whitebox", 0.1, 0.35),
    attack("sparse", "whitebox", 0.5, 0.45),
    attack("sparse", "adaptive", 0.1, 0.3, versus=0.05, versus_low=-0.05, versus_high=0.15, versus_p=0.6)
    | {"versus_trust": "OK"},
    attack("sparse", "adaptive", 0.5, 0.4, gain=0.1, gain_low=0.02, gain_high=0.2, gain_p=0.1, gain_trust="OK"),
    attack("sparse", "adaptive", 0.1, 0.0, eps=16 / 255),
    attack("plain", "whitebox", np.nan, 0.25, trust="SUSPECT", trust_reason="Square beats it"),
]


def write_attacked(folder, rows=ATTACKS):
    """The findings of a run of attacks only, with these rows; its report is written."""
    findings = Findings.of(fabricate_run(folder, corruptions=()))
    attacked = dataclasses.replace(
        findings, attacks=Attacks(pd.DataFrame(rows), worst_case(findings.run, ()), pd.DataFrame())
    )
    write_page(attacked)
    return attacked


def test_attacks_have_their_own_section_with_trust_marks(opened, tmp_path):
    assert run_script(opened, "document.querySelector('#attacks-section').hidden")
    write_attacked(tmp_path)
    opened.get((tmp_path / "report.html").as_uri())
    row = opened.find_elements("css selector", "#attacks tbody tr")[-1]
    assert " ".join(row.text.split()) == "plain pgd L∞ 8/255 whitebox – 25.0 [15.0, 35.0] 40 SUSPECT Square beats it"
    assert row.find_element("css selector", ".mark.SUSPECT").is_displayed()


def test_a_run_of_attacks_shows_its_curves_and_no_empty_section(opened, tmp_path):
    write_attacked(tmp_path)
    opened.get((tmp_path / "report.html").as_uri())
    shown = {s.get_attribute("id") for s in opened.find_elements("css selector", "section[id]") if s.is_displayed()}
    assert shown == {"control", "attacks-section", "board-section", "policies-section", "classes-section"}
    heads = [head.text for head in opened.find_elements("css selector", "#policies th")]
    assert not [head for head in heads if "corrupted" in head or "mCE" in head]
    curves = "document.querySelector('#budgets svg').getAttribute('aria-label')"
    before = run_script(opened, curves)
    assert "plain whitebox 25.0\u00a0% at 8/255" in before
    assert "sparse adaptive 30.0\u00a0% at 8/255, 0.0\u00a0% at 16/255" in before
    opened.find_element("id", "lam").send_keys("\ue014")
    assert "sparse adaptive 40.0\u00a0% at 8/255" in run_script(opened, curves)
    assert len(opened.find_elements("css selector", "#budgets .cross")) == 1
    assert opened.get_log("browser") == []


def foreign(folder, **options):
    """The report of a run of three models without λ."""
    names = ("mine", "yours", "theirs")
    right = {"mine": 34, "yours": 33, "theirs": 12}

    def answer(model, perturbation, severity, lam, split, n):
        return {"correct": np.arange(n) < right[model] - severity}

    run = fabricate_run(folder, names=names, answer=answer, **options)
    write_samples(run, model="", lambdas=())
    write_page(Findings.of(run))
    return (folder / "report.html").as_uri()


def test_without_lambda_no_word_of_it_and_no_empty_panel(opened, tmp_path):
    opened.get(foreign(tmp_path))
    opened.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    told = run_script(opened, "document.querySelector('header').innerText + document.querySelector('main').innerText")
    marks = run_script(
        opened,
        "[...document.querySelectorAll('[aria-label]')].filter(n => n.checkVisibility()).map(n => n.ariaLabel).join()",
    )
    for word in ("λ", "undefined", "NaN", "null", "slider"):
        assert word not in told + marks, word
    assert (
        run_script(
            opened,
            "[...document.querySelectorAll('path')].filter(p => /NaN|undefined/.test(p.getAttribute('d'))).length",
        )
        == 0
    )
    shown = {s.get_attribute("id") for s in opened.find_elements("css selector", "section[id]") if s.is_displayed()}
    assert shown == {"board-section", "corruptions-section", "curves-section", "samples-section", "classes-section"}
    assert len(opened.find_elements("css selector", "#curves path.line")) == 2 * 3
    assert len(opened.find_elements("css selector", "#corruptions circle.dot")) == 2 * 3
    assert len(opened.find_elements("css selector", "#samples .row")) == 2
    assert opened.get_log("browser") == []


@pytest.mark.parametrize("names", [("alone",), ()], ids=["without λ", "with λ"])
def test_the_mce_against_alexnet_is_among_the_tiles(opened, tmp_path, names):
    run = fabricate_run(tmp_path, corruptions=tuple(corruption_names("standard")), names=names, n=8)
    run.record["suite"]["profile"] = "imagenet"
    findings = Findings.of(Run(run.directory, run.record))
    write_page(findings)
    opened.get((tmp_path / "report.html").as_uri())
    tile = opened.find_element("xpath", "//*[@class='tile'][span='mCE (AlexNet)']/strong")
    assert tile.text == f"{findings.scores.iloc[0]['mce_alexnet']:.1f}"
    assert opened.get_log("browser") == []


def test_the_share_of_frames_of_the_same_class_is_among_the_tiles(opened, tmp_path):
    images = dataclasses.replace(load_images("shapes", split="test", n=6), name="cifar10")
    given = {"archive": "cifar10p", "sequences": ("brightness",), "corruptions": (), "models": ("mine",)}
    suite = Suite(name="p", data="cifar10", **given)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 10))
    run = robustness.evaluate({"mine": model}, images, suite=suite, out=tmp_path / "run", device="cpu", progress=False)
    opened.get((tmp_path / "run/report.html").as_uri())
    tile = opened.find_element("xpath", "//*[@class='tile'][span='frames of the same class (%)']/strong")
    assert tile.text == f"{100 * run.findings.board.table['steady'].iloc[0]:.1f}"
    assert opened.get_log("browser") == []


def test_the_leaderboard_tells_apart_only_what_the_images_do(opened, tmp_path):
    opened.get(foreign(tmp_path))
    rows = [" ".join(row.text.split()) for row in opened.find_elements("css selector", "#board tbody tr")]
    assert [row.split()[:2] for row in rows] == [["mine", "1–2"], ["yours", "1–2"], ["theirs", "3"]]
    assert rows[0].endswith("yours")
    leading = [cell.text.split()[0] for cell in opened.find_elements("css selector", "#board td.leading")]
    assert leading == ["77.5", "75.0"]


def test_failures_are_told_with_their_severities(opened, tmp_path):
    run = fabricate_run(tmp_path, missing=lambda cell: cell["perturbation"] == "contrast" and cell["severity"] > 3)
    for cell in run.record["cells"]:
        if cell["perturbation"] == "contrast" and cell["severity"] > 3:
            cell |= {"status": "failed", "reason": "out of memory"}
    write_page(Findings.of(Run(run.directory, run.record)))
    opened.get((tmp_path / "report.html").as_uri())
    text = opened.find_element("id", "missing").text
    assert text == "Missing (out of memory): sparse: contrast 4, 5; plain: contrast 4, 5."


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_its_window_with_thirty_models_of_long_names(opened, tmp_path, width):
    names = tuple(f"a-network-with-a-rather-long-name-{i}.of_a_family" for i in range(30))
    write_page(Findings.of(fabricate_run(tmp_path, names=names, severities=(1,), n=8)))
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.get((tmp_path / "report.html").as_uri())
    assert run_script(opened, "document.documentElement.scrollWidth") <= width
    opened.execute_script("document.querySelector('#board').scrollLeft = 500")
    lefts = "['#board tbody td', '#board'].map(at => document.querySelector(at).getBoundingClientRect().left)"
    cell, table = run_script(opened, lefts)
    left = cell - table
    assert 0 <= left <= 2, "the name of the model stays in view"
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
