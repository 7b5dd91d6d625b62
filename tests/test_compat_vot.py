"""Trackers in vot-toolkit: TraX's requests, regions and pictures, and the entry in trackers.ini."""

import configparser
import io
import shlex
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
from clips import Clip, line

from fasttrack.compat import vot as program
from fasttrack.compat.adapters import as_vot
from fasttrack.compat.adapters.vot import bounding_box, rgb_of
from fasttrack.errors import ArgumentError, BackendUnavailable, BoxError, FrameError, OutputError, SourceError
from fasttrack.geometry import Box
from fasttrack.trackers import create_tracker

CLIP = Clip(line((60, 50), (2, 1), 6))
FRAMES, BOX = CLIP.frames(), Box(*CLIP.box(0))
OTHER = Box(20.0, 30.0, 40.0, 30.0)


class Region:
    """A region with the methods of trax's."""

    def __init__(self, kind, values, offset=(0, 0)):
        self.type, self.values, self.start = kind, values, offset

    def bounds(self):
        return self.values

    def __iter__(self):
        return iter(self.values)

    def array(self):
        return np.array(self.values, np.uint8)

    def offset(self):
        return self.start


def rectangle(box):
    return Region("rectangle", box.as_tuple())


def memory(pixels):
    return types.SimpleNamespace(type=lambda: "memory", array=lambda: pixels)


class Server:
    """Plays requests to what serves, and keeps the answers."""

    def __init__(self, regions, images, tracker_name, multiobject):
        Server.told = {"regions": regions, "images": images, "name": tracker_name, "multiobject": multiobject}
        Server.answers = []

    def quit(self, reason):
        Server.reason = reason
        print("×")

    def wait(self):
        return Server.requests.pop(0)

    def status(self, objects):
        Server.answers.append(objects)


@pytest.fixture
def trax(monkeypatch):
    """Stands for the package trax of vot-trax."""
    module = types.ModuleType("trax")
    module.Region = types.SimpleNamespace(RECTANGLE="rectangle", POLYGON="polygon", MASK="mask")
    module.Image = types.SimpleNamespace(PATH="path", MEMORY="memory", BUFFER="buffer")
    module.TraxStatus = types.SimpleNamespace(INITIALIZE="initialize", FRAME="frame", QUIT="quit")
    module.Rectangle = types.SimpleNamespace(create=lambda *sides: sides)
    module.Server = Server
    monkeypatch.setitem(sys.modules, "trax", module)


def request(kind, frame=None, objects=None):
    given = None if objects is None else [(region, {}) for region in objects]
    return types.SimpleNamespace(type=kind, image=None if frame is None else {"color": memory(frame)}, objects=given)


# --- requests -----------------------------------------------------------------------------------


def test_objects_are_answered_in_the_order_in_which_they_came(trax):
    Server.requests = [
        request("initialize", FRAMES[0], [rectangle(BOX), rectangle(OTHER)]),
        request("frame", FRAMES[1]),
        request("frame", FRAMES[2], [rectangle(OTHER)]),
        request("frame", FRAMES[3], []),
        request("initialize", FRAMES[0], [rectangle(OTHER)]),  # the next sequence, or a restart
        request("frame", FRAMES[1]),
        request("quit"),
    ]
    as_vot("mosse").serve()
    assert Server.told == {
        "regions": ["rectangle", "polygon", "mask"],
        "images": ["path", "memory", "buffer"],
        "name": "mosse",
        "multiobject": True,
    }
    assert Server.reason is None and [len(answer) for answer in Server.answers] == [2, 2, 3, 3, 1, 1]
    pair, late, anew = (create_tracker("mosse") for _ in range(3))
    pair.init(FRAMES[0], np.array([BOX.as_tuple(), OTHER.as_tuple()]))
    late.init(FRAMES[2], OTHER)
    anew.init(FRAMES[0], OTHER)
    steps = [pair.update(frame) for frame in FRAMES[1:4]]
    wanted = [steps[0], steps[1], [*steps[2], late.update(FRAMES[3])], [anew.update(FRAMES[1])]]
    for answer, results in zip([Server.answers[k] for k in (1, 2, 3, 5)], wanted, strict=True):
        for (box, properties), result in zip(answer, results, strict=False):
            assert box == pytest.approx(result.box.as_tuple(), abs=1e-9)
            assert properties == {"confidence": pytest.approx(result.score, abs=1e-9)}
    assert Server.answers[2][2] == (OTHER.as_tuple(), {"confidence": 1.0})
    assert Server.answers[0][0][0] == BOX.as_tuple() != Server.answers[3][0][0]


def test_trackers_are_kept_for_the_next_sequence():
    made = []

    def make():
        made.append(create_tracker("mosse"))
        return made[-1]

    tracker = as_vot(make, multiobject=False)
    for _ in range(3):
        tracker.initialize(FRAMES[0], [BOX])
        tracker.update(FRAMES[1], [OTHER])
        assert len(tracker.update(FRAMES[2])) == 2
    assert len(made) == 2 and tracker.name == "make" and tracker.multiobject is False
    assert tracker.initialize(FRAMES[0], []) == [] == tracker.update(FRAMES[1])  # objects may all come later


def test_errors_of_requests(trax):
    tracker = as_vot("mosse")
    with pytest.raises(ArgumentError, match=r"as_vot\('mosse'\).update: tracker must be started by initialize"):
        tracker.update(FRAMES[0])
    with pytest.raises(BoxError, match="overlaps the frame"):
        tracker.initialize(FRAMES[0], [Box(900.0, 1.0, 5.0, 5.0)])
    with pytest.raises(FrameError, match="got uint16 array"):
        tracker.initialize(FRAMES[0].astype(np.uint16), [BOX])
    with pytest.raises(ArgumentError, match="started by initialize"):
        tracker.update(FRAMES[0])
    Server.requests = [request("initialize", FRAMES[0], [Region("special", 0)])]
    with pytest.raises(BoxError, match="region must be a rectangle, polygon or mask, got special") as caught:
        tracker.serve()
    assert Server.reason == str(caught.value)
    Server.requests = [request("initialize", FRAMES[0], [rectangle(Box(900.0, 1.0, 5.0, 5.0))])]
    with pytest.raises(BoxError, match="the frame of 200×150 px"):
        tracker.serve()
    # What TraX takes.
    assert (
        Server.reason
        == "mosse.init: box must be a box that overlaps the frame of 200x150 px, got (900.0, 1.0, 5.0, 5.0)"
    )


def test_only_ascii_is_printed_in_a_session(trax, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    Server.requests = [request("quit")]
    as_vot("mosse").serve()
    print("×")
    out.flush()
    assert out.buffer.getvalue() == b"\\xd7\n" + "×\n".encode()


def test_without_trax(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trax", None)
    with pytest.raises(BackendUnavailable, match=r"as_vot: needs TraX \(pip install vot-trax, vot-toolkit has it\)"):
        as_vot("mosse").serve()
    assert program.main(["mosse"]) == 1
    assert capsys.readouterr().err.startswith("fasttrack.compat.vot: error: as_vot: needs TraX")


# --- regions and pictures -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "box"),
    [
        (Region("rectangle", (1.5, 2.25, 3.0, 4.0)), (1.5, 2.25, 3.0, 4.0)),
        (Region("polygon", [(3.5, 2.0), (9.0, 4.0), (5.0, 8.25), (1.25, 6.0)]), (1.25, 2.0, 7.75, 6.25)),
        (Region("mask", [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], (10, 20)), (11.0, 21.0, 2.0, 2.0)),
        (Region("mask", [[1]]), (0.0, 0.0, 1.0, 1.0)),
    ],
    ids=["rectangle", "polygon", "mask", "one pixel"],
)
def test_bounding_boxes(region, box):
    assert bounding_box(region).as_tuple() == box


def test_regions_without_a_box():
    with pytest.raises(BoxError, match="region must be a mask with pixels, got an empty one"):
        bounding_box(Region("mask", [[0, 0]]))
    with pytest.raises(BoxError, match="region must be a rectangle, polygon or mask, got None"):
        bounding_box(None)  # what trax makes of a kind that it does not know
    with pytest.raises(BoxError, match="positive width and height"):
        bounding_box(Region("rectangle", (1.0, 2.0, 0.0, 4.0)))


def test_pictures_become_rgb(tmp_path):
    colours = np.zeros((8, 12, 3), np.uint8)
    colours[..., 0], colours[:4, :, 2] = 200, 90  # red 200 everywhere, blue 90 above
    bgr = np.ascontiguousarray(colours[..., ::-1])
    assert cv2.imwrite(str(tmp_path / "a.png"), bgr)
    path = types.SimpleNamespace(type=lambda: "path", path=lambda: str(tmp_path / "a.png"))
    encoded = cv2.imencode(".png", bgr)[1].tobytes()
    buffer = types.SimpleNamespace(type=lambda: "buffer", buffer=lambda: encoded)
    for image in (path, buffer, memory(colours)):
        assert rgb_of(image).dtype == np.uint8
        np.testing.assert_array_equal(rgb_of(image), colours)


def test_pictures_that_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match=r"none.jpg cannot be read as a picture"):
        rgb_of(types.SimpleNamespace(type=lambda: "path", path=lambda: str(tmp_path / "none.jpg")))
    with pytest.raises(SourceError, match="a buffer cannot be read as a picture"):
        rgb_of(types.SimpleNamespace(type=lambda: "buffer", buffer=lambda: b"no picture"))
    with pytest.raises(SourceError, match="wanted a picture as path, memory or buffer, got url"):
        rgb_of(types.SimpleNamespace(type=lambda: "url"))


# --- trackers.ini -------------------------------------------------------------------------------


def started_by_the_toolkit(entry):
    """The words of the command that vot-toolkit makes of an entry with ``protocol = traxpython``."""
    command = entry["command"].replace('"', '\\"')
    return shlex.split(f'{entry["python"]} -c "import sys; {command}"')


def test_the_entry_starts_the_tracker_with_its_options(tmp_path):
    path = tmp_path / "trackers.ini"
    path.write_text("# mine\n[other]\ncommand = x")
    # A text is a value too; this one goes through repr, the toolkit's quotes, shlex and configparser.
    nasty = """feature_options={'a': 'b"c%d\\\\e'}"""
    words = ["kcf", "--set", "scale_levels=1", "--set", nasty, "--single"]
    assert program.main([*words, "--name", "kcf-1", "--write-ini", str(path)]) == 0
    assert program.main(["mosse", "--write-ini", str(path)]) == 0
    assert path.read_text().startswith(
        "# mine\n[other]\ncommand = x\n\n[kcf-1]\nlabel = kcf-1\nprotocol = traxpython\n"
    )
    entries = configparser.ConfigParser()
    entries.read(path)
    assert entries.sections() == ["other", "kcf-1", "mosse"]
    python, _, code = started_by_the_toolkit(entries["kcf-1"])
    assert python == sys.executable
    said = subprocess.run([python, "-c", code.replace("SystemExit(main(", "SystemExit(print(")], capture_output=True)
    assert eval(said.stdout) == words


def test_entries_that_are_refused(tmp_path, capsys):
    path = tmp_path / "trackers.ini"
    for words, code, message in [
        (["nothing"], 2, "name must be one of crt, "),
        (["mosse", "--set", "colour=1"], 2, "option must be one of "),
        (["mosse", "--set", "colour"], 2, "--set must be KEY=VALUE, got 'colour'"),
        (["mosse", "--name", "a b"], 2, "name must be letters, digits, - and _ (what vot-toolkit takes), got 'a b'"),
    ]:
        assert program.main([*words, "--write-ini", str(path)]) == code
        assert message in capsys.readouterr().err and not path.exists()
    program.write_entry(path, "mosse", ["mosse"])
    before = path.read_text()
    with pytest.raises(OutputError, match=r"has an entry \[mosse\] already; choose another name with --name"):
        program.write_entry(path, "mosse", ["mosse"])
    assert path.read_text() == before
    with pytest.raises(OutputError, match=r"x.ini: cannot be written: No such file or directory"):
        program.write_entry(tmp_path / "none" / "x.ini", "mosse", ["mosse"])
    path.write_text("command = x\n")
    with pytest.raises(OutputError, match=r"is not a trackers\.ini"):
        program.write_entry(path, "mosse", ["mosse"])
