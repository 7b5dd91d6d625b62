"""The page in a real browser: nothing on the console, no wider than a phone, and a table that sorts."""

import html
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from made_report import entries, report, sheet

from fasttrack.evaluation.report.page import render_page
from fasttrack.evaluation.report.sheets import Album

pytest.importorskip("jinja2")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (chromium, chromium-browser, google-chrome)"),
]
PHONE = 390
SWITCHES = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"

# Runs in the page around the report's; what it finds is the title.
PROBE = """
const frame = document.querySelector("iframe");
const tried = () => {
  const page = frame.contentDocument, found = {};
  const root = page.documentElement;
  found.width = frame.contentWindow.innerWidth;
  found.scroll = root.scrollWidth;
  found.outside = [...page.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, nav, pre, svg")
    && e.getBoundingClientRect().right > found.width + 0.5).map((e) => e.tagName + "." + e.className).slice(0, 5);
  const names = () => [...page.querySelectorAll(".rows tbody th")].map((e) => e.textContent);
  const texts = (k) => [...page.querySelectorAll(`.rows tbody tr td:nth-child(${k})`)].map((e) => e.textContent);
  const heads = [...page.querySelectorAll(".rows thead th")];
  const press = (k) => heads[k].querySelector("button").click();
  found.count = names().length;
  press(0); found.up = names().slice(0, 3);
  press(0); found.down = names().slice(0, 3); found.sort = heads[0].getAttribute("aria-sort");
  press(2); found.values = texts(3);
  press(2); found.rising = texts(3);
  page.querySelector(".next")?.click(); found.second = page.querySelector("output")?.textContent;
  const find = page.querySelector(".find");
  if (find) { find.value = "S199"; find.dispatchEvent(new frame.contentWindow.Event("input")); found.found = names(); }
  const toggle = page.querySelector("[data-toggle='0']");
  const shown = () => [...page.querySelectorAll("svg [data-t='0']")].filter((e) => e.getClientRects().length).length;
  found.before = shown(); toggle?.click(); found.after = shown();
  return found;
};
frame.addEventListener("load", () => {
  let found;
  try { found = tried(); } catch (error) { found = { error: String(error) }; }
  document.title = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def page():
    return render_page(made())


def made():
    who = {e.ident: e for e in entries(14)}
    truth = np.tile([20.0, 20, 60, 60], (9, 1))

    class Grey:
        def __len__(self):
            return 9

        def __getitem__(self, index):
            return np.full((240, 320, 3), 100, np.uint8)

    pictures, _ = Album().pictures(Grey(), truth, {ident: truth + e.number for ident, e in who.items()}, who)
    return report(count=14, sequences=200, sheets=[sheet(pictures, 14)])


def chromium(tmp_path, *options):
    """Run with a profile of its own; what it wrote."""
    command = [CHROMIUM, *SWITCHES.split(), f"--user-data-dir={tmp_path / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)


def framed(tmp_path, page):
    """A file that shows the page as wide as a phone: a window itself cannot be so narrow."""
    file = tmp_path / "framed.html"
    frame = f"border:0;width:{PHONE}px;height:3000px"
    # Without the charset Chromium guesses, from as much as it has read by then.
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><body style="margin:0"><iframe style="{frame}" '
        f'srcdoc="{html.escape(page)}"></iframe><script>{PROBE}</script></body>'
    )
    return f"file://{file}"


def probe(tmp_path, page):
    """What the probe finds, and the lines on the console."""
    done = chromium(
        tmp_path, "--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=5000", framed(tmp_path, page)
    )
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]))
    return found, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_works_on_a_phone(tmp_path, page):
    found, console = probe(tmp_path, page)
    assert console == []
    assert found.get("error") is None
    assert found["width"] == PHONE and found["scroll"] <= PHONE, found["outside"]
    assert found["outside"] == []
    assert found["count"] == 50
    assert found["up"] == ["s1", "s2", "s3"]
    assert found["down"] == ["Sequence 0 </script>", "s199", "s198"]
    assert found["sort"] == "descending"
    values = [float(v) for v in found["values"] if v != "missing"]
    assert values == sorted(values, reverse=True) and len(values) == 50
    assert found["rising"][0] == "missing"
    rising = [float(v) for v in found["rising"][1:]]
    assert rising == sorted(rising)
    assert found["second"] == "51–100 of 200"
    assert found["found"] == ["s199"]
    assert found["before"] > 2 and found["after"] == 0


def test_the_probe_sees_what_is_wrong(tmp_path, page):
    bad = page.replace("</main>", '<div style="width:600px">wide</div><script>console.error("wrong")</script></main>')
    found, console = probe(tmp_path, bad)
    assert found["scroll"] > PHONE and found["outside"]
    assert any("wrong" in line for line in console)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_it_is_drawn(tmp_path, page, width, dark):
    picture = tmp_path / "page.png"
    address = framed(tmp_path, page)
    if width != PHONE:
        (tmp_path / "page.html").write_text(page)
        address = f"file://{tmp_path / 'page.html'}"
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    chromium(
        tmp_path,
        f"--window-size={max(width, 500)},3000",
        "--hide-scrollbars",
        f"--screenshot={picture}",
        *options,
        address,
    )
    image = cv2.imread(str(picture))[:, :width]
    assert image.shape[1] == width
    ground = image[600:, 2].mean()
    assert ground < 60 if dark else ground > 200
    # Header, text, plots, pictures: not one colour.
    colours = np.unique(image[::4, ::4].reshape(-1, 3), axis=0)
    assert len(colours) > 300
    blue = np.array([0xE6, 0x7F, 0x2F])  # of the first tracker, in OpenCV's order
    assert (abs(image.astype(int) - blue).max(2) < 12).sum() > 100
