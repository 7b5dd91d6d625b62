"""The MATLAB 5 reader against SciPy's, a file written by hand, and altered bytes."""

import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from fasttrack.errors import WeightsError
from fasttrack.vision.matfile import read_mat

CONTENT = {
    "half": np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 7,
    "single": np.float32([[1.5, -2.25]]),
    "bytes": np.arange(250, dtype=np.uint8).reshape(5, 50),
    "small": np.array([[7]], dtype=np.int16),
    "wide": np.array([[-(2**40)]], dtype=np.int64),
    "empty": np.zeros((0, 3)),
    "text": "colour",
}


@pytest.mark.parametrize("compressed", [False, True])
def test_against_scipy(tmp_path, compressed):
    path = tmp_path / "x.mat"
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.eye(3), "in a cell"
    savemat(path, CONTENT | {"cell": cell, "s": {"a": 1.0, "inner": {"b": "deep"}}}, do_compression=compressed)
    got, wanted = read_mat(path), loadmat(path)
    for name in CONTENT:
        if name == "text":
            assert got[name] == wanted[name][0] == "colour"
        else:
            assert np.array_equal(got[name], wanted[name]) and got[name].shape == wanted[name].shape, name
    assert np.array_equal(got["cell"][0], np.eye(3)) and got["cell"][1] == "in a cell"
    assert got["s"][0]["a"].item() == 1.0
    assert got["s"][0]["inner"] == [{"b": "deep"}]


@pytest.mark.parametrize(("mark", "order"), [(b"IM", "<"), (b"MI", ">")])
def test_both_byte_orders(tmp_path, mark, order):
    def tag(kind, data):
        return struct.pack(order + "II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    body = tag(6, struct.pack(order + "II", 6, 0)) + tag(5, struct.pack(order + "ii", 1, 2))
    body += tag(1, b"x") + tag(9, struct.pack(order + "dd", 0.5, -3.0))
    (tmp_path / "x.mat").write_bytes(b"by hand".ljust(124) + struct.pack(order + "H", 0x100) + mark + tag(14, body))
    assert read_mat(tmp_path / "x.mat")["x"].tolist() == [[0.5, -3.0]]


@pytest.mark.parametrize("compressed", [False, True])
def test_altered_bytes_never_do_more_than_raise(tmp_path, compressed):
    path = tmp_path / "x.mat"
    savemat(path, CONTENT | {"s": {"a": CONTENT["half"], "b": "deep"}}, do_compression=compressed)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(500):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data)
        try:
            read_mat(path)
        except WeightsError as error:
            refused += 1
            assert "x.mat" in str(error)
    assert refused > 100


def test_cells_without_end(tmp_path):
    """Cells in cells, as deep as a file can say, are refused before Python's own limit."""
    body = b""
    for _ in range(2000):
        head = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<II", 1, 0)
        body = struct.pack("<II", 14, len(head) + len(body)) + head + body
    (tmp_path / "x.mat").write_bytes(b"".ljust(124) + struct.pack("<H", 0x100) + b"IM" + body)
    with pytest.raises(WeightsError, match="more than 32 levels"):
        read_mat(tmp_path / "x.mat")
