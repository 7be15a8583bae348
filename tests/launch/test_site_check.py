"""`cluster check` where SLURM refuses: what was found before, and what was refused, is shown all the same."""

from played_slurm import play, put_on_path

from srcgcnn.cli.main import main

SBATCH = """
for word in "$@"; do [ "$word" = --test-only ] && exit 0; done
echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2
exit 1
"""
SITE = 'kind = "slurm"\n[worker]\ngpus = 0\n[[more_workers]]\ngpus = 0\npartition = "other"\n'


def test_a_site_that_slurm_refuses_is_told_with_everything_that_was_found(tmp_path, monkeypatch, capsys):
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        play(tmp_path, name, SBATCH if name == "sbatch" else "")
    put_on_path(tmp_path, monkeypatch)
    (tmp_path / "site.toml").write_text(SITE)
    shared = tmp_path / "shared"
    shared.mkdir()
    command = ["cluster", "check", str(tmp_path / "site.toml"), "--folder", str(shared), "--on-node"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "ok   SLURM commands" in said
    assert "ok   locks" in said
    for job in ("head", "worker of kind 1", "worker of kind 2"):
        assert f"BAD  {job}: a job on a node: sbatch refused the job" in said
    assert said.count("Invalid qos") == 3
    assert list(shared.iterdir()) == []
