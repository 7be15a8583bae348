"""Exactly these crystals: files of ids, and rows of any source."""

import pytest

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.id_list import NOT_THERE, only, read_ids
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.source import SourceError
from srcgcnn.sweep.prepare import find_data
from srcgcnn.sweep.spec import DataSpec


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\nc\n",
        "\ufeffid,set\na,1\nb,2\nc,3\n",
        "# why\n a \n\nb\nc\na\n",
        'MP_ID;x\n"a";1\nb;2\nc;3',
        "a\tx\nb\ty\nc",
    ],
)
def test_a_file_of_ids_is_read_in_every_usual_form(text, tmp_path):
    (tmp_path / "ids").write_text(text, encoding="utf-8")
    assert read_ids(tmp_path / "ids") == ("a", "b", "c")


def test_files_without_ids_are_refused(tmp_path):
    (tmp_path / "empty").write_text("id\n# none\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, words in (
        ("none", "no such file"),
        ("empty", "no id in it"),
        ("bytes", "not UTF-8 text"),
        ("", "not a regular"),
    ):
        with pytest.raises(SourceError, match=words):
            read_ids(tmp_path / name)


def test_a_store_of_listed_rows_holds_them_and_names_those_that_are_not_there(tmp_path):
    source = demo_source(30)
    names = [row.row_id for row in source.rows()]
    chosen = [names[7], "nowhere", names[3]]
    report = build_store(only(source, chosen), tmp_path / "store", processes=1)
    assert report.store.ids == [names[3], names[7]]
    assert [(row.row_id, row.reason) for row in report.rejected] == [("nowhere", NOT_THERE)]
    assert only(source, chosen).content_hash == only(source, chosen[::-1]).content_hash != source.content_hash


@pytest.mark.full
def test_command_and_sweep_take_the_file(tmp_path, capsys):
    names = [row.row_id for row in demo_source().rows()][:40:2]
    (tmp_path / "ids.txt").write_text("\n".join(names))
    out = tmp_path / "store"
    assert main(["data", "build", "demo", "--ids", str(tmp_path / "ids.txt"), "--out", str(out)]) == 0
    assert "20 with" in capsys.readouterr().out
    spec = DataSpec("demo", ids=str(tmp_path / "ids.txt"))
    assert find_data(spec, tmp_path / "stores", None, strict=False).manifest is None
    with pytest.raises(StoreError, match="is a graph store and used as a whole"):
        find_data(DataSpec(str(out), ids=str(tmp_path / "ids.txt")), tmp_path / "stores", None, strict=False)
