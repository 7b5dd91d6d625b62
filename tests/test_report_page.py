"""The page, figures and tables of a report: what stands in them, and that names stay names."""

import csv
import io
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from made_report import COLUMNS, EVIL, NAMES, board, entries, report, sheet

from fasttrack.errors import BackendUnavailable, OutputError, SourceError
from fasttrack.evaluation.report import charts, palette
from fasttrack.evaluation.report.figures import write_figures
from fasttrack.evaluation.report.model import Attribute, Column, Curves, Picture, Points, best_two
from fasttrack.evaluation.report.page import CELLS, FIRST_ROWS, render_page
from fasttrack.evaluation.report.sheets import Album
from fasttrack.evaluation.report.tables import ranking_csv, ranking_json, ranking_tex, sequences_csv


class Page(HTMLParser):
    """Tags with their attributes, text of each, and whether everything is closed."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_names_are_data_everywhere():
    html = render_page(report(sheets=[sheet([])]))
    assert "<script>alert" not in html
    page = Page(html)
    assert not page.open
    assert len(page.of("script")) == 2  # the rows and our own
    text = " ".join(page.text)
    for place in ("Report ", "ValueError: ", "  ", "Woman ", "any ", "otb100=/", ""):
        assert place + EVIL in text, place


def test_the_page_needs_nothing_beside_itself():
    pictures = [Picture(3, 4, 3, b"\xff\xd8jpeg")]
    html = render_page(report(sheets=[sheet(pictures)]))
    page = Page(html)
    for name, attributes in page.tags:
        for key in ("src", "href", "action", "data", "srcset", "xlink:href"):
            value = attributes.get(key, "#")
            assert value.startswith(("#", "data:image/jpeg;base64,")), (name, key, value)
    assert not page.of("link")
    assert not re.search(r"url\(|@import|https?:", html)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert any(a.get("name") == "viewport" for a in page.of("meta"))


def test_links_inside_lead_somewhere():
    page = Page(render_page(report()))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for a in page.of("a")}
    assert {"otb100-ope", "trackers", "machine", "failed"} <= wanted <= set(ids)


def test_what_is_incomplete_stands_first():
    html = render_page(report())
    assert html.index("is incomplete") < html.index("<table")
    assert "5 of 6 sequences in the ranking" in html
    assert re.search(r"<details[^>]*><summary><b>crt</b>: ValueError", html)  # folded


def rows_of(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])["rows"]


def test_rows_reach_the_script():
    rows = rows_of(render_page(report()))
    assert rows[0] == ["Sequence 0 </script>", 100, "OCC", [[0.5]] * 4]
    assert rows[1][3] == ["missing", [0.51], [0.51], [0.51]]


def test_a_page_of_very_many_sequences_stays_small():
    made = report(sequences=30_000)
    html = render_page(made)
    assert len(html) < 2_000_000
    page = Page(html)
    assert len([t for t in page.of("th") if t.get("scope") == "row"]) < FIRST_ROWS + 20
    kept = rows_of(html)
    assert len(kept) * 4 <= CELLS
    assert f"The page has the first {len(kept):,} of 30,000 sequences." in html
    assert sequences_csv(made).count("\n") == 1 + 30_000 * 4


def test_no_board_is_a_page_too():
    made = report()
    html = render_page(type(made)(**{**vars(made), "boards": [], "failures": [], "broken": [], "notices": []}))
    assert not Page(html).open
    assert "What failed" not in html


def test_colours_are_seen_on_both_grounds_and_told_apart():
    assert len(set(palette.COLOURS)) == 12
    for colour in palette.COLOURS:
        assert palette.contrast(colour, palette.PAPER) >= 3, colour
        assert palette.contrast(colour, palette.NIGHT) >= 3, colour
    assert palette.contrast("#ffffff", "#000000") == pytest.approx(21)
    looks = {(palette.colour_of(k), palette.dash_of(k)) for k in range(48)}
    assert len(looks) == 48


def test_one_tracker_has_one_colour_in_the_whole_page():
    html = render_page(report())
    page = Page(html)
    lines = [a for a in page.of("path") if "data-t" in a] + [a for a in page.of("g") if "data-t" in a]
    assert {int(a["data-t"]) for a in lines} == {0, 1, 2, 3}
    for a in lines:
        assert a["style"] == f"--c:var(--t{a['data-t']})"
    for k, colour in enumerate(palette.COLOURS):
        assert f"--t{k}:{colour};" in html


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 50, [0, 10, 20, 30, 40, 50]), (0.13, 0.31, [0.15, 0.2, 0.25, 0.3])],
)
def test_ticks_are_round(low, high, wanted):
    np.testing.assert_allclose(charts.nice_ticks(low, high), wanted, atol=1e-12)


def test_a_curve_lies_where_its_axes_say():
    who = {e.ident: e for e in entries(1)}
    ident = next(iter(who))
    x = np.array([0.0, 0.5, 1.0])
    chart = charts.curve_chart(Curves("s", "S", "x", "y", x, {ident: np.array([1.0, 0.5, np.nan])}, "auc", 0.5), who)
    y_of = {tick.label: tick.at for tick in chart.y_ticks}
    x_of = {tick.label: tick.at for tick in chart.x_ticks}
    middle = (y_of["0"] + y_of["1"]) / 2
    assert chart.lines[0].path == f"M{x_of['0']:g} {y_of['1']:g}L{(x_of['0'] + x_of['1']) / 2:g} {middle:g}"
    assert chart.marker == (x_of["0"] + x_of["1"]) / 2
    assert (y_of["0"], y_of["1"]) == (chart.bottom, chart.top)


def test_a_radar_has_a_spoke_per_attribute_and_needs_three():
    who = {e.ident: e for e in entries(2)}
    three = [Attribute(name, 2, dict.fromkeys(who, 0.5)) for name in "ABC"]
    assert charts.radar_chart(three[:2], who, "AUC") is None
    chart = charts.radar_chart(three, who, "AUC")
    assert [w.text for w in chart.words[-3:]] == ["A (2)", "B (2)", "C (2)"]
    assert all(line.path.count("L") == 2 and line.path.endswith("Z") for line in chart.lines)


def test_names_of_near_points_do_not_lie_on_each_other():
    who = {e.ident: e for e in entries(3)}
    points = Points("speed", "S", "FPS", "AUC", [(ident, 10.0, 0.5, False) for ident in who], True)
    chart = charts.point_chart(points, who)
    heights = sorted(dot.label_y for dot in chart.dots)
    assert min(np.diff(heights)) >= 14
    for dot in chart.dots:
        assert 0 <= dot.x <= chart.width and 0 <= dot.y <= chart.height


def test_large_ticks_are_short():
    who = {e.ident: e for e in entries(2)}
    ends = zip(who, (10.0, 2e6), (0.2, 0.4), strict=True)
    chart = charts.point_chart(Points("speed", "S", "FPS", "AUC", [(*p, False) for p in ends], True), who)
    assert [tick.label for tick in chart.x_ticks] == ["10", "100", "1000", "10k", "100k", "1M"]


def test_best_and_second_are_those_written():
    column = Column("a", "A", "", 2)
    assert best_two(column, [0.501, 0.499, 0.3, None, math.nan]) == ({0, 1}, {2})
    assert best_two(column, [0.5, 0.5]) == (set(), set())
    assert best_two(Column("a", "A", "", 2, higher_is_better=False), [0.5, 0.4]) == ({1}, {0})
    assert best_two(Column("a", "A", "", 2, judged=False), [0.5, 0.4]) == (set(), set())
    assert column.text(None) == column.text(math.nan) == "–"


def test_csv_holds_every_line():
    made = report()
    lines = list(csv.DictReader(io.StringIO(ranking_csv(made))))
    assert [line["tracker"] for line in lines] == list(NAMES)
    assert float(lines[1]["auc"]) == 0.75 and lines[1]["fps_shared"] == ""
    rows = list(csv.DictReader(io.StringIO(sequences_csv(made))))
    assert len(rows) == 6 * 4
    assert (rows[4]["state"], rows[4]["auc"]) == ("missing", "")
    assert (rows[5]["state"], rows[5]["auc"]) == ("done", "0.51")


def test_json_is_strict_and_whole():
    record = json.loads(ranking_json(report()), parse_constant=pytest.fail)
    first = record["boards"][0]
    assert first["ranking"][0]["auc"] == 0.8 and first["ranking"][0]["rank"] == 1
    assert first["sequences"] == {"ranked_on": 5, "expected": 6}
    assert len(first["curves"]["success"]["y"]["t0-0a1b2c3d"]) == 21


def test_tex_marks_the_best_and_escapes_names():
    text = ranking_tex(report())
    assert r"\textbf{0.800}" in text and r"\underline{0.750}" in text
    assert r"a\_b\$x\textasciicircum{}2\$ \& 50\% & \underline{0.750}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert "FPS shared" not in text  # nobody has one
    for line in text.splitlines():
        assert line.startswith("%") or not re.search(r"(?<!\\)[$%#_^]", line), line


def test_figures_of_any_name(tmp_path):
    pytest.importorskip("matplotlib")
    files = write_figures(report(), tmp_path)
    assert {f.name for f in files} == {
        f"otb100-ope-{k}.{s}" for k in ("success", "speed", "attributes") for s in ("png", "svg")
    }
    assert all(f.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for f in files if f.suffix == ".png")
    svg = (tmp_path / "otb100-ope-success.svg").read_text()
    assert "[0.750] a_b$x^2$ &amp; 50%" in svg  # not a formula
    assert palette.COLOURS[1] in svg
    assert not any("mathdefault" in f.read_text() for f in files if f.suffix == ".svg")
    again = tmp_path / "again"
    write_figures(report(), again)
    assert (again / "otb100-ope-success.svg").read_text() == svg


def test_figures_say_where_they_cannot_be_written(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"otb100-ope-success\.png: cannot be written"):
        write_figures(report(), tmp_path / "file")


@pytest.mark.parametrize(
    ("package", "call"), [("jinja2", render_page), ("matplotlib", lambda r: write_figures(r, None))]
)
def test_a_missing_package_is_named_with_the_way_to_it(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendUnavailable, match=rf"needs {package} \(pip install 'fasttrack\[eval\]'\)"):
        call(report())


class Grey:
    """Frames of one grey; the one of number ``broken`` is not there."""

    def __init__(self, count, broken=None):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise SourceError("7.jpg: gone")
        return np.full((240, 320, 3), 100, np.uint8)


def test_pictures_show_every_box_in_its_colour():
    import cv2

    who = {e.ident: e for e in entries(2)}
    truth = np.tile([20.0, 20, 60, 60], (9, 1))
    first, second = who
    boxes = {first: np.tile([120.0, 20, 60, 60], (9, 1)), second: np.full((9, 4), np.nan)}
    boxes[second][:5] = [1e12, -1e12, 3e12, 1e13]
    pictures, note = Album(frames=3).pictures(Grey(9), truth, boxes, who)
    assert note == "" and [p.frame for p in pictures] == [0, 4, 8]
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(pictures[0].jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert image.shape == (pictures[0].height, pictures[0].width, 3)
    scale = image.shape[1] / 320
    left = image[round(50 * scale), round(20 * scale) : round(20 * scale) + 3].astype(int)
    assert (left > 180).all(1).any()  # white: the ground truth
    blue = image[round(50 * scale), round(120 * scale) : round(120 * scale) + 3].astype(int)
    assert (abs(blue - palette.rgb(palette.COLOURS[0])) < 60).all(1).any()
    assert (abs(image[round(50 * scale), round(250 * scale)].astype(int) - 100) < 6).all()  # no box, no line


def test_pictures_end_where_frames_or_room_end():
    who = {e.ident: e for e in entries(1)}
    truth = np.tile([20.0, 20, 60, 60], (9, 1))
    boxes = dict.fromkeys(who, truth)
    pictures, note = Album(frames=3).pictures(Grey(9, broken=4), truth, boxes, who)
    assert len(pictures) == 1 and note == "Frame 4 cannot be read: 7.jpg: gone"
    one = len(pictures[0].jpeg)
    album = Album(room=2 * one + one // 2, frames=3)
    pictures, note = album.pictures(Grey(9), truth, boxes, who)
    assert len(pictures) == 2 and "No room" in note
    assert album.room >= 0


def test_board_finds_its_columns():
    assert board().column("fps") is COLUMNS[1]
