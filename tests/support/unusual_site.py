"""A site file with everything that few sites want."""

UNUSUAL = {
    "kind": "slurm",
    "account": "abc123",
    "setup": ["module load python", "source $HOME/venv/bin/activate"],
    "environment": {"OMP_NUM_THREADS": "1", "WORDS": "two words"},
    "drop": ["mem", "nodes"],
    "extra": {"reservation": "school", "requeue": False},
    "python": "python",
    "container": "/images/srcgcnn.sif",
    "container_options": ["--nv", "--bind", "/scratch"],
    "mail_user": "me@site.org",
    "head": {"partition": "cpu", "extra": {"nice": 100}},
    "worker": {
        "count": 7,
        "throttle": 3,
        "partition": "gpu,gpu2",
        "gpu_type": "a100",
        "exclusive": True,
        "qos": "short",
    },
    "more_workers": [{"count": 2, "partition": "old", "gpu_type": "v100", "gpu_form": "gpus-per-node"}],
}
