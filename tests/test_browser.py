"""Every page as a browser shows it: wide and narrow, light and dark, without an error, a request or a picture untold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_comparing import ONE, TWO

from neologism import protocol, run, versus
from neologism.comparing import drawn_in
from neologism.protocol import Row
from neologism.recipe import recipe
from neologism.training import train

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's chromium; without it or playwright nothing here is tested."""
    driver = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no chromium")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a word and of a LoRA with probes, a comparison's page and a benchmark's."""
    place = tmp_path_factory.mktemp("pages")
    (place / "shown").mkdir()
    for number, colour in enumerate(("gold", "navy")):
        Image.new("RGB", (40, 40), colour).save(place / "shown" / f"{number}.png")
    made = {method: report_of(method, tiny_base, place) for method in ("inversion", "lora")}
    return made | {"comparison": comparison(place / "compared"), "benchmark": benchmark(place / "benchmark")}


def report_of(method: str, base: Path, place: Path) -> Path:
    often: dict[str, Any] = {"steps": 8, "batch": 2, "probe_every": 2, "preview_every": 2, "method": method}
    told = recipe(pictures=str(place / "shown"), words="<a-long-word-of-a-disc>", base=str(base), like="cat", **often)
    list(train(told, place / method))
    return place / method / "report.html"


def comparison(out: Path) -> Path:
    for name in ("inversion", "dreambooth"):
        folder = drawn_in(out, name)
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (64, 64), "teal").save(folder / f"0-{number}.png")
    found = {"inversion": replace(ONE, curve=((0.5, 0.9), (1.0, 0.8))), "dreambooth": TWO}
    return versus.page(found, out, [Image.new("RGB", (64, 64), "gold")] * 4, "<disc>")


def benchmark(out: Path) -> Path:
    for name in ("a_red_car", "cat"):
        for number in range(8):
            file = out / name / "pictures" / "word" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            run.keep_image(Image.new("RGB", (64, 64), "olive"), file)
    rows = [
        Row(name, "cat", "object", "an-organisation/a-long-name-of-a-network", metric, 0.5, 0.3, 0.6)
        for name in ("a_red_car", "cat")
        for metric in ("subject fidelity", "prompt fidelity", "diversity")
    ]
    return protocol.written(rows, out)[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["inversion", "lora", "comparison", "benchmark"])
def test_a_page_has_no_error_no_request_no_overflow_and_tells_every_picture(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    errors: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(pages[name].as_uri())
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    wide = page.evaluate("document.documentElement.scrollWidth")
    images = page.evaluate("document.images.length")
    untold = page.evaluate("[...document.images].filter(i => !i.alt || !i.naturalWidth).length")
    curves = page.evaluate("[...document.querySelectorAll('svg')].filter(s => s.getAttribute('aria-label')).length")
    page.close()
    assert errors == [] and asked == [pages[name].as_uri()]
    assert wide <= width and images >= 8 and untold == 0
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == (scheme == "dark")
    assert curves >= {"inversion": 5, "lora": 2, "comparison": 1, "benchmark": 0}[name]
    assert pages[name].stat().st_size < 5_000_000
