"""Tables as people have them: pymatgen's structures in Parquet and CSV, Excel; pickles are never opened."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.source import SourceError
from srcgcnn.data.sources.registry import open_source


@pytest.fixture(scope="module")
def crystals():
    rows = list(demo_source(6).rows())
    return [(row.row_id, row.content, row.targets["electrostatic_energy"]) for row in rows]


@pytest.fixture(scope="module")
def expected(crystals, tmp_path_factory):
    return build_store(demo_source(6), tmp_path_factory.mktemp("demo") / "store", processes=1).store


def frame_of(crystals, content, column="structure"):
    return pd.DataFrame(
        {"id": [name for name, _, _ in crystals], "energy": [y for *_, y in crystals]}
        | {column: [content(crystal) for _, crystal, _ in crystals]}
    )


def without_empty(value):
    """Parquet knows no group without columns, such as the `properties` of most structures."""
    if isinstance(value, dict):
        return {key: without_empty(inner) for key, inner in value.items() if inner != {}}
    return [without_empty(inner) for inner in value] if isinstance(value, list) else value


def same_graphs(store, expected):
    assert store.ids == expected.ids
    for ours, theirs in zip(store.shards, expected.shards, strict=True):
        for name in ("atomic_numbers", "neighbours", "distances"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    np.testing.assert_allclose(store.target("energy"), expected.target("electrostatic_energy"), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.parquet", lambda crystal: without_empty(crystal.as_dict())),
        ("table.parquet", lambda crystal: crystal.to_json()),
        ("table.csv", lambda crystal: crystal.to_json()),
        ("table.csv.gz", lambda crystal: json.dumps(crystal.as_dict())),
        ("table.xlsx", lambda crystal: crystal.to_json()),
    ],
)
def test_structures_of_pymatgen_in_a_table(name, content, crystals, expected, tmp_path):
    frame, path = frame_of(crystals, content), tmp_path / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False)
    source = open_source(str(path))
    assert source.targets == ("energy",)
    same_graphs(build_store(source, tmp_path / "store", processes=1).store, expected)


def test_a_folder_of_cifs_with_an_excel_table(crystals, expected, tmp_path):
    for name, crystal, _ in crystals:
        crystal.to(tmp_path / f"{name}.cif", significant_figures=12)
    frame_of(crystals, lambda _: "x", "remark").drop(columns="remark").to_excel(tmp_path / "t.xlsx", index=False)
    store = build_store(open_source(str(tmp_path)), tmp_path / "store", processes=1).store
    assert sorted(store.ids) == sorted(expected.ids)


def test_rows_without_a_crystal_are_listed(crystals, tmp_path):
    frame = frame_of(crystals, lambda crystal: crystal.to_json())
    frame.loc[0, "structure"], frame.loc[1, "structure"] = "{broken", None
    frame.to_parquet(tmp_path / "t.parquet")
    report = build_store(open_source(str(tmp_path / "t.parquet")), tmp_path / "store", processes=1)
    assert [row.reason.split(":")[0] for row in report.rejected] == [
        "column 'structure' is not JSON",
        "column 'structure' is empty",
    ]


def test_a_dict_in_a_table_imports_nothing(crystals, tmp_path):
    """pymatgen would decode the properties of a site, and import what they name."""
    mark = tmp_path / "mark"
    (tmp_path / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')")
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        crystal = crystals[0][1].as_dict()
        crystal["sites"][0]["properties"] = {"x": {"@module": "evil_module", "@class": "A"}}
        frame = frame_of(crystals, lambda _: json.dumps(crystal))
        frame.to_csv(tmp_path / "t.csv", index=False)
        build_store(open_source(str(tmp_path / "t.csv")), tmp_path / "store", processes=1)
    finally:
        sys.path.remove(str(tmp_path))
    assert not mark.exists()


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("was-unpickled"),))


@pytest.mark.parametrize("name", ["table.pkl", "TABLE.PICKLE"])
def test_a_pickle_is_refused_unread_with_the_way_to_convert_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(SourceError, match=r"runs whatever is in it.*read_pickle.*to_parquet"):
        open_source(str(tmp_path / name))
    assert not Path("was-unpickled").exists()


def test_what_only_looks_like_excel_is_refused(tmp_path):
    (tmp_path / "t.xlsx").write_text("id,cif\n")
    with pytest.raises(SourceError, match="is not an Excel table"):
        open_source(str(tmp_path / "t.xlsx"))
