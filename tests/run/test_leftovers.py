"""Files that killed writers left behind."""

import os

from srcgcnn.run.leftovers import remove_leftovers
from srcgcnn.run.paths import RunPaths


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(tmp_path):
    paths = RunPaths(tmp_path)
    old = {paths.results / ".a.json.1.ab.tmp", paths.launch / ".head.json.1.ab.tmp", paths.checkpoints / "a.pt.damaged"}
    for path in (*old, paths.spec, paths.results / "a.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    for path in old:
        os.utime(path, (0, 0))
    young = {
        paths.results / ".b.json.1.ab.tmp",
        paths.launch / ".jobs.json.1.ab.tmp",
        paths.checkpoints / "b.pt.damaged",
    }
    for path in young:
        path.write_text("")
    remove_leftovers(paths)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)
    remove_leftovers(paths, nobody_writes=True)
    assert [path.name for path in paths.results.iterdir()] == ["a.json"]
    assert (paths.launch / ".jobs.json.1.ab.tmp").exists()  # a worker may write there


def test_a_model_that_was_being_uploaded_when_its_writer_was_killed_goes(tmp_path):
    paths = RunPaths(tmp_path)
    paths.results.mkdir()
    killed, uploading = tmp_path / ".model-a.tmp", tmp_path / ".model-b.tmp"
    for folder in (killed, uploading):
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights.pt").touch()
    os.utime(killed, (0, 0))
    remove_leftovers(paths)
    assert not killed.exists()
    assert uploading.exists()
