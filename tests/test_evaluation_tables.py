"""Tables of numbers: every separator reads alike, and what is wrong is named by file and line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttrack.errors import SourceError
from fasttrack.evaluation.tables import parse_table, read_table, split_row

WANTED = np.array([[1.0, 2.5, -3.0, 4e2], [5.0, 6.0, np.nan, 8.0]])


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-3,4e2\n5,6,NaN,8\n",
        "1\t2.5\t-3\t4e2\n5\t6\tnan\t8",
        "1 2.5 -3 4e2\r\n5 6 NAN 8\r\n\r\n",
        "  1, 2.5 ,\t-3,4e2,\n5;6;nan;8;\n\n \n",
        "\ufeff1,2.5,-3,4e2\n5   6\t\tnan 8 ",
    ],
)
def test_separators_and_ends_of_lines_mean_the_same(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    table = read_table(path, columns=4)
    assert table.dtype == np.float64
    np.testing.assert_array_equal(table, WANTED)


def test_one_number_one_row_and_one_column():
    assert parse_table("7", "a").tolist() == [[7.0]]
    assert parse_table("0,1,0", "a").tolist() == [[0.0, 1.0, 0.0]]
    assert parse_table("0\n1\n0\n", "a", columns=1).tolist() == [[0.0], [1.0], [0.0]]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, r"gt\.txt: holds no numbers"),
        (" \n\n", 4, r"gt\.txt: holds no numbers"),
        ("1,2,3,4\n\n1,2,3,4\n", 4, r"gt\.txt:2: blank line before the last row"),
        ("\n1,2,3,4\n", 4, r"gt\.txt:1: blank line"),
        ("1,2,3,4\n,\n1,2,3,4\n", 4, r"gt\.txt:2: blank line"),
        ("1,2,3,4\n1,2,x,4\n", 4, r"gt\.txt:2: not a row of numbers: '1,2,x,4'"),
        ("1,2,,4\n", 4, r"gt\.txt:1: not a row of numbers: '1,2,,4'"),
        ("1,2,3,4,,\n", 4, r"gt\.txt:1: not a row of numbers"),
        ("1,2,inf,4\n", 4, r"gt\.txt:1: not a row of numbers"),
        ("1,2,1_0,4\n", 4, r"gt\.txt:1: not a row of numbers"),
        ("1,2,3\n", 4, r"gt\.txt:1: 3 columns, wanted 4: '1,2,3'"),
        ("1,2,3,4\n1,2,3,4,5\n", (4, 8), r"gt\.txt:2: 5 columns, wanted 4 or 8"),
        ("1,2,3,4\n1,2,3,4,5,6,7,8\n", (4, 8), r"gt\.txt:2: 8 columns where the rows before have 4"),
        ("1,2\n1\n", None, r"gt\.txt:2: 1 columns where the rows before have 2"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, text, columns, message):
    path = tmp_path / "gt.txt"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_table(path, columns)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"no\.txt: cannot be read"):
        read_table(tmp_path / "no.txt")
    with pytest.raises(SourceError, match="cannot be read"):
        read_table(tmp_path)
    (tmp_path / "a.mat").write_bytes(b"\x00\xff\xfe\x81")
    with pytest.raises(SourceError, match=r"a\.mat: not a text file"):
        read_table(tmp_path / "a.mat")


def test_words_of_a_row():
    assert split_row(" 1,  NaN\t3 ,") == ["1", "NaN", "3"]
    assert split_row("1,,2") == ["1", "", "2"]
    assert split_row("  ") == split_row(",") == []


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(allow_infinity=False), min_size=width, max_size=width), min_size=1, max_size=8
        )
    ),
    st.sampled_from([",", "\t", " ", ", ", ";"]),
)
def test_any_table_comes_back_to_the_bit(rows, separator):
    text = "\n".join(separator.join(repr(value) for value in row) for row in rows)
    np.testing.assert_array_equal(parse_table(text, "a"), np.array(rows))
