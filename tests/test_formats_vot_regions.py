"""Masks and binary trajectories of the VOT toolkit, written here byte by byte."""

import struct
import zipfile

import numpy as np
import pytest
from result_files import put

from fasttrack.errors import SourceError
from fasttrack.evaluation.formats import FORMATS, detect
from fasttrack.evaluation.formats.validate import Expected, validate
from fasttrack.evaluation.formats.vot_regions import parse_region, trajectory_text
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED

POLYGON = [1.5, 2, 4, 3, 2, 5, 0, 4.25]
# Started, a rectangle, failed, not running, started, a polygon, a mask of 2 × 3 px whose middle row is empty.
RECORDS = [
    struct.pack("<BI", 0, 1),
    struct.pack("<B4f", 1, 10.25, -3.5, 5, 6),
    struct.pack("<BI", 0, 2),
    struct.pack("<BI", 0, 0),
    struct.pack("<BI", 0, 1),
    struct.pack("<BH8f", 2, 4, *POLYGON),
    struct.pack("<B2h3H4H", 3, -2, 7, 2, 3, 4, 1, 1, 2, 2),
]
BINARY = struct.pack("<hI", 1, len(RECORDS)) + b"".join(RECORDS)
TEXT = "1\n10.25,-3.5,5.0,6.0\n2\n0\n1\n1.5,2.0,4.0,3.0,2.0,5.0,0.0,4.25\nm-2,7,2,3,1,1,2,2\n"


def runs(mask):
    """Lengths of runs of 0 and 1 in turn, counted px by px."""
    lengths, value = [0], 0
    for px in mask.ravel().tolist():
        if px != value:
            lengths.append(0)
            value = px
        lengths[-1] += 1
    return lengths


def test_the_box_of_a_mask_covers_its_px():
    generator = np.random.default_rng(4)
    seen = set()
    for share in (0.02, 0.05, 0.1, 0.5, 1.0):
        for height, width in generator.integers(1, 9, (60, 2)).tolist():
            mask = (generator.random((height, width)) < share).astype(int)
            got = parse_region(f"m3,-4,{width},{height},{','.join(map(str, runs(mask)))}".split(","))
            rows, columns = np.nonzero(mask)
            if not len(rows):
                assert np.isnan(got).all()
                continue
            size = np.ptp(columns) + 1, np.ptp(rows) + 1
            assert got.tolist() == [3 + columns.min(), -4 + rows.min(), *size]
            seen.add(tuple(map(int, size)))
    assert len(seen) > 30
    # The toolkit cuts long runs with one of length 0 between, and may leave the rest out.
    assert parse_region(["m0", "0", "4", "2", "1", "1", "0", "2"]).tolist() == [1, 0, 3, 1]
    # A size that nobody could hold costs nothing.
    assert parse_region(["m0", "0", "1000000000", "1000000000", "5", "1"]).tolist() == [5, 0, 1, 1]


def test_binary_trajectories_are_read_as_their_text(tmp_path):
    assert trajectory_text(BINARY, "x") == TEXT
    folder = tmp_path / "baseline/bag"
    folder.mkdir(parents=True)
    (folder / "bag_001.bin").write_bytes(BINARY)
    put(tmp_path, {"baseline/bag/bag_001_time.value": "1\n2\n\n\n5\n6\n7\n"})
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.write(folder / "bag_001.bin", "baseline/bag/bag_001.bin")
    for path in (tmp_path, tmp_path / "it.zip", folder / "bag_001.bin"):
        (track,) = FORMATS["vot"].read(path)
        assert (track.sequence, track.run, detect(path).name) == ("bag", 0, "vot")
        assert track.states.tolist() == [INIT, TRACKED, FAILURE, SKIPPED, INIT, TRACKED, TRACKED]
        np.testing.assert_array_equal(track.boxes[[1, 5, 6]], [[10.25, -3.5, 5, 6], [0, 2, 4, 3], [-2, 7, 2, 3]])
        assert np.isnan(track.boxes[[0, 2, 3, 4]]).all()
        assert track.polygons[5].ravel().tolist() == POLYGON and list(track.polygons) == [5]
    assert FORMATS["vot"].read(tmp_path)[0].seconds[[0, 6]].tolist() == [1, 7]
    # Where both are there, the text counts, as for the toolkit.
    (folder / "bag_001.txt").write_text("1\n" + "1,2,3,4\n" * 6)
    (track,) = FORMATS["vot"].read(tmp_path)
    assert track.boxes[1].tolist() == [1, 2, 3, 4]


def test_binary_trajectories_are_validated(tmp_path):
    folder = tmp_path / "baseline/bag"
    folder.mkdir(parents=True)
    (folder / "bag_001.bin").write_bytes(BINARY)
    assert validate(tmp_path, FORMATS["vot"], [Expected("bag", 7)]).findings == ()
    (finding,) = validate(tmp_path, FORMATS["vot"], [Expected("bag", 9)]).findings
    assert str(finding).endswith("bag_001.bin: 7 rows, wanted 9")
    (folder / "bag_001.bin").write_bytes(BINARY[:-3])
    (finding,) = validate(tmp_path, FORMATS["vot"], [Expected("bag", 7)]).findings
    assert str(finding).endswith("bag_001.bin: ends within region 7")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within region 1"),
        (b"1\n", "ends within region 1"),
        (struct.pack("<hI", 2, 0), r"not a binary trajectory of VOT \(version 2, wanted 1\)"),
        (struct.pack("<hIB", 1, 1, 4), "region 1: of kind 4, wanted 0"),
        (struct.pack("<hI", 1, 2**32 - 1) + RECORDS[0], "ends within region 2"),
        (BINARY + b"??", "2 bytes behind the last region"),
    ],
)
def test_broken_trajectories_are_named(tmp_path, data, message):
    (tmp_path / "a_001.bin").write_bytes(data)
    with pytest.raises(SourceError, match=rf"a_001\.bin: {message}"):
        FORMATS["vot"].read(tmp_path / "a_001.bin")


def test_wrong_codes_in_bytes_are_named_by_region(tmp_path):
    (tmp_path / "a_001.bin").write_bytes(struct.pack("<hIBI", 1, 1, 0, 9))
    with pytest.raises(SourceError, match=r"a_001\.bin:1: a code that is not 0, 1 or 2"):
        FORMATS["vot"].read(tmp_path / "a_001.bin")
