"""A report of made numbers, with names that would break a page, a formula or a table that took them for its own."""

import numpy as np

from fasttrack.evaluation.report.model import (
    Attribute,
    Board,
    Column,
    Curves,
    Entry,
    Failure,
    Points,
    Report,
    Row,
    Sheet,
    Standing,
)

EVIL = '<script>alert("x")</script>'
NAMES = ("crt", "a_b$x^2$ & 50%", EVIL, "cv2:CSRT")
COLUMNS = (
    Column("auc", "AUC", "area under the success curve"),
    Column("fps", "FPS", "frames per second", 1),
    Column("fps_shared", "FPS shared", "with others", 1, judged=False),
)


def entries(count=4):
    return [
        Entry(
            k, f"t{k}-0a1b2c3d", NAMES[k] if k < len(NAMES) else f"tracker {k}", "made weights", {"threshold": 0.1 * k}
        )
        for k in range(count)
    ]


def board(count=4, sequences=6, key="otb100-ope", sheets=(), notices=()):
    trackers = entries(count)
    x = np.linspace(0, 1, 21)
    auc = {e.ident: 0.8 - 0.05 * e.number for e in trackers}
    standings = [
        Standing(e, k + 1, {"auc": auc[e.ident], "fps": 10.0 * (k + 1), "fps_shared": None}, sequences, 0, 0)
        for k, e in enumerate(trackers)
    ]
    rows = []
    for k in range(sequences):
        name = "Sequence 0 </script>" if k == 0 else f"s{k}"
        rows.append(Row(name, 100 + k, ["OCC"], {e.ident: (0.5 + 0.01 * k,) for e in trackers}))
    rows[1].cells[trackers[0].ident] = "missing"
    lines = {ident: value * (1 - x) for ident, value in auc.items()}
    points = [(e.ident, 10.0 * (e.number + 1), auc[e.ident], e.number == 1) for e in trackers]
    return Board(
        key=key,
        dataset="otb100",
        protocol="ope",
        rules="otb",
        columns=COLUMNS,
        standings=standings,
        common=sequences - 1,
        expected=sequences,
        frames=1234,
        curves=[Curves("success", "Success", "overlap above", "share of frames", x, lines, "auc", 0.5)],
        points=[Points("speed", "Speed", "FPS", "AUC", points, True)],
        attribute_key="auc",
        attributes=[Attribute(name, 3 + k, auc) for k, name in enumerate(("DEF", "FM", "OCC", "SV"))],
        row_keys=("auc",),
        rows=rows,
        sheets=sheets,
        notices=notices,
    )


def report(**options):
    made = board(**options)
    return Report(
        title=f"Report {EVIL}",
        made="1 January 2026",
        version="0.1.0",
        entries=entries(options.get("count", 4)),
        boards=[made],
        notices=[f"{EVIL} is incomplete"],
        failures=[Failure("crt", f"ValueError: {EVIL}", f"Traceback\n  {EVIL}", 3, [f"otb100/{EVIL} (ope 0)"])],
        broken=[f"{EVIL}.json: not a whole outcome"],
        asked={"datasets": f"otb100=/{EVIL}"},
        machines=[{"cpu": f"any {EVIL}", "cores": 2}],
    )


def sheet(pictures, names=4, note=""):
    return Sheet(f"Woman {EVIL}", 0.25, {e.ident: 0.2 + 0.1 * e.number for e in entries(names)}, pictures, note)
