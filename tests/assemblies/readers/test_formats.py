"""The same recordings in every format give the same assembly; what is not as it should be is refused with facts."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, inspect_recordings
from tests.assemblies.readers.files import MAP, PACKAGES, WRITERS, example, tables, write_netcdf_group, write_npz
from tests.refusals import refused, warned


def same(first, second):
    """Values and coordinates are the same; attributes tell where they are from."""
    assert first.dims == second.dims
    np.testing.assert_array_equal(first.values, second.values)
    assert {str(name) for name in first.coords} - {"trial"} == set(map(str, second.coords))
    for name in second.coords:
        assert first[name].dims == second[name].dims
        assert first[name].values.tolist() == second[name].values.tolist()


def read(kind, folder, lab, **options):
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind], reason=f"the extra io or zarr brings {PACKAGES[kind]}")
    writer, needed = WRITERS[kind]
    columns = {} if kind == "assembly" else MAP
    return nb.read_recordings(writer(lab, folder), columns=columns, **tables(lab, needed), **options)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_assembly(kind, tmp_path):
    lab = example()
    recordings = read(kind, tmp_path, lab)
    same(recordings, lab.assembly())
    assert "left_out" not in recordings.attrs or recordings.attrs["left_out"] == []
    nb.save_assembly(recordings, tmp_path / "out.nc")
    assert nb.open_assembly(tmp_path / "out.nc").identical(recordings)


@pytest.mark.parametrize("kind", ["npy", "npz", "MATLAB", "long table", "wide table"])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 7), st.integers(2, 4)),
        elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
    )
)
def test_any_values_come_back(kind, values):
    lab = example(values)
    rows, columns = ~np.isnan(values).all(axis=1), ~np.isnan(values).all(axis=0)
    with tempfile.TemporaryDirectory() as folder:
        if not rows.any():
            return
        square = values.shape[0] == values.shape[1] and "table" not in kind
        recordings = read(kind, Path(folder), lab, **({"dims": "presentation,neuroid"} if square else {}))
    np.testing.assert_array_equal(recordings.values, values[rows][:, columns])
    assert recordings.attrs.get("n_missing_values", 0) == np.isnan(values[rows][:, columns]).sum()
    assert recordings["stimulus_id"].values.tolist() == np.array(lab.image_name)[rows].tolist()
    lost = [line for line in recordings.attrs.get("left_out", []) if "no value" in line]
    assert len(lost) == int(not rows.all()) + int(not columns.all())


def test_missing_values_are_kept_and_what_has_none_is_left_out(tmp_path):
    lab = example()
    lab.values[1, 0] = np.nan
    lab.values[4] = np.nan
    lab.values[:, 2] = np.nan
    recordings = read("npy", tmp_path, lab)
    np.testing.assert_array_equal(recordings.values, lab.values[[0, 1, 2, 3, 5]][:, :2])
    assert recordings.attrs["n_missing_values"] == 1
    assert any("1 of 6 presentations" in line for line in recordings.attrs["left_out"])
    assert any("1 of 3 sites" in line and "u2" in line for line in recordings.attrs["left_out"])


# -- Axes -------------------------------------------------------------------------------------------------------------


def test_repetitions_may_be_an_axis(tmp_path):
    values = np.arange(24.0).reshape(2, 4, 3)  # sites, images, repetitions
    values[:, 1, 2] = np.nan
    np.save(tmp_path / "r.npy", values)
    recordings = nb.read_recordings(tmp_path / "r.npy", trials=list("abcd"), dims="cell,image,repeat")
    assert recordings.shape == (11, 2)
    assert recordings["repetition"].values.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2]
    assert recordings["stimulus_id"].values.tolist() == list("aaabbcccddd")
    np.testing.assert_array_equal(recordings.values[3], values[:, 1, 0])
    assert recordings["neuroid_id"].values.tolist() == ["site-0", "site-1"]


def test_three_axes_without_names_are_asked_for():
    with refused(AssemblyError, "(2, 4, 3)", "--dims"):
        nb.read_recordings(np.zeros((2, 4, 3)), trials=list("ab"))
    with refused(AssemblyError, "depth", "neuroid"):
        nb.read_recordings(np.zeros((2, 4)), trials=list("ab"), dims="presentation,depth")
    bins = nb.read_recordings(np.zeros((2, 4, 3)), trials=list("ab"), bins=(0, 150, 50))
    assert bins.dims == ("presentation", "neuroid", "time_bin")
    assert bins["time_bin_end"].values.tolist() == [50, 100, 150]


def test_a_square_array_is_read_by_rows_with_a_warning():
    with warned(UserWarning, "(2, 2)", "dims="):
        recordings = nb.read_recordings(np.array([[1.0, 2.0], [3.0, 4.0]]), trials=["a", "b"])
    assert recordings.values.tolist() == [[1, 2], [3, 4]]
    turned = nb.read_recordings(np.array([[1.0, 2.0], [3.0, 4.0]]), trials=["a", "b"], dims="site,trial")
    assert turned.values.tolist() == [[1, 3], [2, 4]]


def test_lengths_that_fit_no_axis_are_refused():
    with refused(AssemblyError, "(4, 3)", "5 for presentation"):
        nb.read_recordings(np.zeros((4, 3)), trials=list("abcde"))


# -- Which array, which column ------------------------------------------------------------------------------------------


def test_several_arrays_are_shown_and_asked_for(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "two.npz", early=values, late=values + 1, image_id=np.arange(3))
    with refused(AssemblyError, "2 arrays", "early (3, 2) float64", "late (3, 2)", "--var"):
        nb.read_recordings(tmp_path / "two.npz")
    late = nb.read_recordings(tmp_path / "two.npz", variable="late")
    assert late.values.tolist() == (values + 1).tolist()
    assert late["stimulus_id"].values.tolist() == ["0", "1", "2"]
    assert any("early (3, 2)" in line for line in late.attrs["left_out"])
    with refused(AssemblyError, "0 arrays 'rates'", "early"):
        nb.read_recordings(tmp_path / "two.npz", variable="rates")


def test_a_group_is_chosen_by_its_path(tmp_path):
    path = write_netcdf_group(example(), tmp_path)
    assert nb.read_recordings(path, variable="/monkey/day1/rates", columns=MAP).shape == (6, 3)
    assert set(inspect_recordings(path)["name"]) >= {"monkey/day1/rates", "monkey/day1/unit_id"}


def test_what_is_in_a_file_is_listed(tmp_path):
    shown = inspect_recordings(write_npz(example(), tmp_path))
    assert shown.attrs["format"] == "npz"
    uses = dict(zip(shown["name"], shown["use"], strict=True))
    assert (uses["rates"], uses["image_name"], uses["unit_id"]) == ("responses", "stimulus_id", "neuroid_id")


def test_guesses_stand_in_the_attributes_and_a_map_ends_them(tmp_path):
    lab = example()
    path = write_npz(lab, tmp_path)
    guessed = nb.read_recordings(path).attrs["guessed"]
    assert any("'image_name' of trials is stimulus_id" in line for line in guessed)
    mapped = nb.read_recordings(path, columns={**MAP, "neuroid_id": "unit_id"})
    assert not any("is stimulus_id" in line or "is neuroid_id" in line for line in mapped.attrs["guessed"])


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    lab = example()
    with refused(AssemblyError, "'picture_name'", "'stimulus_id'", "image_name", "category"):
        nb.read_recordings(lab.values, trials=lab.trials, columns={"stimulus_id": "picture_name"})
    with refused(AssemblyError, "6 presentations", "no ids", "--trials"):
        nb.read_recordings(lab.values)
    with refused(AssemblyError, "category", "'stimulus_id'", "--map"):
        nb.read_recordings(lab.values, trials=lab.trials[["category"]])


def test_ids_are_text_by_one_rule(tmp_path):
    trials = pd.DataFrame({"image": ["007", "7", "1e5", "NA"], "block": [1, 1, 2, 2]})
    trials.to_csv(tmp_path / "trials.csv", index=False)
    for name in ("image", "picture number"):
        trials.rename(columns={"image": name}).to_csv(tmp_path / "trials.csv", index=False)
        read_back = nb.read_recordings(np.zeros((4, 2)), trials=tmp_path / "trials.csv", columns={"stimulus_id": name})
        assert read_back["stimulus_id"].values.tolist() == ["007", "7", "1e5", "NA"]
        assert read_back["block"].values.tolist() == [1, 1, 2, 2]
    numbers = nb.read_recordings(np.zeros((3, 2)), trials=[7.0, 8.5, 9.0], sites=[1, 2])
    assert numbers["stimulus_id"].values.tolist() == ["7", "8.5", "9"]
    assert numbers["neuroid_id"].values.tolist() == ["1", "2"]


def test_sessions_and_animals_qualify_ids():
    options = {"trials": ["a", "b", "c"], "session": "210325", "animal": "PE"}
    recordings = nb.read_recordings(np.zeros((3, 2)), **options)
    assert recordings["neuroid_id"].values.tolist() == ["PE-210325-site-0", "PE-210325-site-1"]
    assert recordings["session"].values.tolist() == ["210325"] * 2
    assert recordings["stimulus_id"].values.tolist() == ["a", "b", "c"]
    both = nb.read_recordings(np.zeros((3, 2)), **options, qualify_ids=("stimulus_id",))
    assert both["stimulus_id"].values.tolist() == ["PE-210325-a", "PE-210325-b", "PE-210325-c"]
    assert both["neuroid_id"].values.tolist() == ["site-0", "site-1"]


def test_columns_of_sessions_qualify_ids_of_sites():
    long = pd.DataFrame(
        {
            "session": ["1", "1", "2", "2"],
            "trial": [0, 1, 0, 1],
            "image": ["a", "b", "a", "b"],
            "unit": ["u0"] * 4,
            "rate": [1.0, 2.0, 3.0, 4.0],
        }
    )
    shared = nb.read_recordings(long)
    assert shared.shape == (4, 1)
    assert any("--session session" in line for line in shared.attrs["guessed"])
    apart = nb.read_recordings(long, session="session")
    assert apart["neuroid_id"].values.tolist() == ["1-u0", "2-u0"]
    np.testing.assert_array_equal(apart.values, [[1, np.nan], [2, np.nan], [np.nan, 3], [np.nan, 4]])
    assert apart["session"].values.tolist() == ["1", "1", "2", "2"]
    sites = {"unit": ["u0", "u0"], "day": [1, 2], "animal": ["PE", "WE"]}
    named = nb.read_recordings(np.zeros((3, 2)), trials=list("abc"), sites=sites, session="day", animal="animal")
    assert named["neuroid_id"].values.tolist() == ["PE-1-u0", "WE-2-u0"]
    assert named["session"].values.tolist() == ["1", "2"]
    with refused(AssemblyError, "'day'", "column of the trials"):
        nb.read_recordings(np.zeros((2, 3)), trials={"image": ["a", "b"], "day": [1, 2]}, session="day")


def test_ids_are_brought_to_a_form():
    read_back = nb.read_recordings(np.zeros((2, 3)), trials=["set/A.png", "b.jpg"], ids="name,stem,casefold")
    assert read_back["stimulus_id"].values.tolist() == ["a", "b"]
    with refused(AssemblyError, "2 stimuli", "1 ids"):
        nb.read_recordings(np.zeros((2, 3)), trials=["a.png", "a.jpg"], ids="stem")


def test_columns_of_one_name_in_both_tables_are_told_apart():
    sites = pd.DataFrame({"neuroid_id": ["u0", "u1"], "x": [1, 2]})
    recordings = nb.read_recordings(np.zeros((3, 2)), trials={"stimulus_id": list("abc"), "x": [0, 1, 2]}, sites=sites)
    assert recordings["neuroid_x"].values.tolist() == [1, 2]
    assert recordings["x"].dims == ("presentation",)


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Mend"):
        nb.read_recordings(tmp_path / "none.npy", trials=["a"])
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with refused(AssemblyError, "a.xlsx", "pandas.read_excel", "a.csv"):
        nb.read_recordings(tmp_path / "a.xlsx")
    with refused(AssemblyError, "a.xlsx", "pandas.read_excel"):
        nb.read_recordings(np.zeros((2, 2)), trials=tmp_path / "a.xlsx")
    (tmp_path / "a.doc").write_bytes(b"")
    with refused(AssemblyError, "'.doc'", ".csv"):
        nb.read_recordings(tmp_path / "a.doc")
    with refused(AssemblyError, "spike_times.npy"):
        nb.read_recordings(tmp_path)


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ImportError, match=r"h5py.*neurobridge\[io\]"):
        nb.read_recordings(tmp_path / "a.h5")


def test_tables_may_be_separated_by_tabs(tmp_path):
    lab = example()
    trials = pd.DataFrame({"image_name": ["007", "NA", "3-1"], "kind": ["a, b", "c", "d"]})
    trials.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
    recordings = nb.read_recordings(
        np.ones((3, 2)), trials=tmp_path / "trials.tsv", columns={"stimulus_id": "image_name"}
    )
    assert recordings["stimulus_id"].values.tolist() == ["007", "NA", "3-1"]
    assert recordings["kind"].values.tolist() == ["a, b", "c", "d"]
    long, _ = WRITERS["long table"]
    path = long(lab, tmp_path)
    pd.read_csv(path, dtype=str, keep_default_na=False).to_csv(tmp_path / "long.TSV", sep="\t", index=False)
    same(nb.read_recordings(tmp_path / "long.TSV", columns=MAP), lab.assembly())
    assert inspect_recordings(tmp_path / "long.TSV").attrs["format"] == "tsv"


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_between_cells_are_refused_with_the_line_that_mends_it(tmp_path, mark, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trials.csv").write_text(f"image_name{mark}size\na.png{mark}1,5\nb.png{mark}2\n")
    with refused(AssemblyError, repr(mark), "trials.csv") as caught:
        nb.read_recordings(np.ones((2, 3)), trials="trials.csv", columns={"stimulus_id": "image_name"})
    line = str(caught.value).partition("Mend: ")[2].partition("; with")[0]
    exec(line, {"pandas": pd})
    mended = nb.read_recordings(np.ones((2, 3)), trials="trials-commas.csv", columns={"stimulus_id": "image_name"})
    assert mended["stimulus_id"].values.tolist() == ["a.png", "b.png"]


def opaque(name: str, kind: str) -> bytes:
    """An object of a class as MATLAB 5 to 7 writes it: its name, the system of classes, the class, and numbers."""

    def element(number: int, content: bytes) -> bytes:
        return struct.pack("<II", number, len(content)) + content + bytes(-len(content) % 8)

    texts = b"".join(element(1, text.encode()) for text in (name, "MCOS", kind))
    numbers = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<II", 1, 1)) + element(1, b"")
    inside = element(14, numbers + element(6, struct.pack("<I", 7)))
    return element(14, element(6, struct.pack("<II", 17, 0)) + texts + inside)


@pytest.mark.parametrize(
    ("kind", "line"),
    [("string", "names = cellstr(names)"), ("table", "names = table2struct(names, 'ToScalar', true)")],
)
def test_objects_of_matlab_are_named_with_the_line_that_converts_them(tmp_path, kind, line):
    scipy.io.savemat(tmp_path / "day.mat", {"rates": np.eye(3, 2)})
    with (tmp_path / "day.mat").open("ab") as stream:
        stream.write(opaque("names", kind))
    with refused(AssemblyError, "3 presentations", f"names (a MATLAB {kind} object", line):
        nb.read_recordings(tmp_path / "day.mat")
    assert line in " ".join(inspect_recordings(tmp_path / "day.mat")["name"])
    recordings = nb.read_recordings(tmp_path / "day.mat", trials=list("abc"))
    assert any(line in sentence for sentence in recordings.attrs["left_out"])


def test_objects_of_matlab_7_3_are_named_with_the_line_that_converts_them(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra io brings h5py")
    with h5py.File(tmp_path / "day.mat", "w") as file:
        for name, kind, values in (
            ("rates", "double", np.ones((2, 3))),
            ("names", "string", np.ones((1, 6), dtype=np.uint32)),
        ):
            file[name] = values
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
        file["names"].attrs["MATLAB_object_decode"] = np.int32(3)
    with refused(AssemblyError, "names (a MATLAB string object", "names = cellstr(names)"):
        nb.read_recordings(tmp_path / "day.mat")
