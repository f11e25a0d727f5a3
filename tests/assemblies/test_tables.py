"""The reader of tables: names stay names, numbers become numbers, and what is no table is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurobridge.assemblies import AssemblyError, Pairs, read_table
from tests.refusals import refused

WORDS = ["NA", "null", "None", "nan", "N/A", "NaN", "<NA>", "NULL", "inf", "1e5", "007", "True"]


def write(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_ids_that_other_readers_take_for_missing_are_names(tmp_path):
    path = write(tmp_path, "stimulus_id,file\n" + "".join(f"{word},{word}.png\n" for word in WORDS))
    table = read_table(path, required=("stimulus_id", "file"))
    assert table["stimulus_id"].tolist() == WORDS
    pairs = Pairs(WORDS, WORDS[::-1])
    read = Pairs.load(pairs.save(tmp_path / "pairs.csv"))
    assert (read.source_id.tolist(), read.target_id.tolist()) == (WORDS, WORDS[::-1])


def test_other_columns_are_numbers_where_each_cell_is_one(tmp_path):
    cells = {
        "whole": ["1", "-2", "3"],
        "real": ["0.5", "1e-3", "2"],
        "gaps": ["1.5", "", "NA"],
        "flags": ["True", "false", "TRUE"],
        "words": ["NA", "car", ""],
        "codes": ["01", "02", "10"],
        "huge": ["99999999999999999999", "1", "2"],
        "blank": ["", "", ""],
    }
    path = write(tmp_path, "\n".join(",".join(row) for row in [list(cells), *zip(*cells.values(), strict=True)]))
    table = read_table(path)
    assert table["whole"].tolist() == [1, -2, 3]
    assert table["real"].tolist() == [0.5, 1e-3, 2.0]
    np.testing.assert_array_equal(table["gaps"].to_numpy(), [1.5, np.nan, np.nan])
    assert table["flags"].tolist() == [True, False, True]
    for name in ("words", "codes", "huge", "blank"):
        assert table[name].tolist() == cells[name]
    assert read_table(path, numbers=False)["whole"].tolist() == cells["whole"]


def test_a_frame_that_pandas_wrote_comes_back_without_its_index(tmp_path):
    frame = pd.DataFrame({"stimulus_id": ["a", "b"], "size": [1.5, 2.5]})
    frame.to_csv(tmp_path / "with.csv")
    frame.set_axis([3, 17]).to_csv(tmp_path / "some_rows.csv")
    pd.read_csv(tmp_path / "with.csv").to_csv(tmp_path / "twice.csv")
    for name in ("with.csv", "some_rows.csv", "twice.csv"):
        table = read_table(tmp_path / name)
        assert table.columns.tolist() == ["stimulus_id", "size"]
        assert table["size"].tolist() == [1.5, 2.5]


def test_byte_order_marks_quotes_and_empty_columns_are_read(tmp_path):
    path = write(tmp_path, 'stimulus_id, note,\n"a, b","two\nlines",\nc,"say ""no""",\n', "utf-8-sig")
    table = read_table(path)
    assert table.columns.tolist() == ["stimulus_id", "note"]
    assert table["stimulus_id"].tolist() == ["a, b", "c"]
    assert table["note"].tolist() == ["two\nlines", 'say "no"']


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "as a table"),
        ("stimulus_id\ncaf\u00e9\n".encode("latin-1"), "not text in UTF-8"),
        ("stimulus_id\na\n".encode("utf-16"), "not text in UTF-8"),
        (b"\x00\x01\x02\xff\xfe", "not text in UTF-8"),
        (b"stimulus_id,size\na,1,2\n", "as a table"),
        (b"stimulus_id,stimulus_id\na,b\n", "'stimulus_id' 2 times"),
        (b"stimulus_id,\na,b\n", "no name over column 2"),
        (b"stimulus_id;file\na;b\n", r"first line 'stimulus_id;file'.*sep=';'"),
        (b"id\na\n", r"columns \['id'\].*stimulus_id"),
        (b"stimulus_id,size\n,1\nb,2\n  ,3\n", "2 empty stimulus_id.*row 1"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, data, message):
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(AssemblyError, match=message) as caught:
        read_table(path, what="stimuli", required=("stimulus_id",))
    assert str(caught.value).startswith(f"{path} (stimuli): found")
    assert "Mend: " in str(caught.value)


def test_a_missing_file_and_a_folder_are_no_table(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with refused(FileNotFoundError, "(pairs)"):
            read_table(path, what="pairs")
