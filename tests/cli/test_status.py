"""`srcgcnn status` of a sweep that runs on this machine."""

from srcgcnn.cli.main import main
from srcgcnn.driver.progress import Backlog, ProgressFile
from srcgcnn.driver.state import SweepState
from srcgcnn.launch.rendezvous import write_record_file
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import SweepRecord, write_record
from tests.sweep.test_plan import DATA, spec_of


def test_the_dashboard_is_named_while_the_sweep_runs_and_no_longer(tmp_path, capsys):
    paths, asked = RunPaths(tmp_path / "out"), spec_of(tmp_path, "[axes]\ndepths=[2]\nseeds=1\n")
    write_record(paths, SweepRecord(asked, DATA, "store", "srcgcnn sweep --depths 2"))
    paths.dashboard.write_text("http://127.0.0.1:8265\n")
    state = SweepState(plan_sweep(asked, DATA, paths))
    state.listen(progress := ProgressFile(paths, state))

    write_record_file(paths.backlog, Backlog(1, 0))
    progress.write()
    assert main(["status", str(paths.out)]) == 0
    running = capsys.readouterr().out
    assert "running on this machine" in running
    assert "dashboard  http://127.0.0.1:8265" in running
    assert str(paths.ray_token) in running
    assert "groups     " in running

    progress.write(ended=True)
    assert main(["status", str(paths.out)]) == 0
    over = capsys.readouterr().out
    assert "to continue: srcgcnn sweep --depths 2" in over
    assert "8265" not in over
    assert "groups     " not in over  # nothing trains any more
