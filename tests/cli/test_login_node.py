"""What the login node of a cluster loads."""

import subprocess
import sys


def test_the_login_node_loads_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import sys, srcgcnn.cli.submission, srcgcnn.launch.status, srcgcnn.launch.slurm.site_check\n"
        "import srcgcnn.sweep.plan, srcgcnn.sweep.prepare, srcgcnn.cli.plan\n"
        "heavy = {'torch','ray','mlflow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
