"""A real PostgreSQL for tests: a cluster of its own in a folder, on loopback, with password login."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

BINARIES = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
NO_POSTGRES = "no PostgreSQL on this machine"
PASSWORD = "a-password-of-the-database"


@contextmanager
def postgres(port):
    """Run a server with the empty database `mlflow` of a user `mlflow`; yields the line for ~/.pgpass."""
    folder = Path(tempfile.mkdtemp(prefix="srcgcnn-postgres-"))
    as_server = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        as_server = ["runuser", "-u", "postgres", "--"]
    line = f"127.0.0.1:{port}:*:mlflow:{PASSWORD}"
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if os.geteuid() == 0:
        os.chown(secret, pwd.getpwnam("postgres").pw_uid, -1)

    def call(program, *options):
        subprocess.run([*as_server, BINARIES / program, *options], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    login = ["--auth", "scram-sha-256", "--username", "mlflow", f"--pwfile={secret}"]
    call("initdb", "--no-sync", "--pgdata", folder / "data", *login)
    try:
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        call("pg_ctl", "--pgdata", folder / "data", "--wait", "-o", options, "--log", folder / "log", "start")
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        create = [BINARIES / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        subprocess.run(create, check=True, env=environment)
        yield line
    finally:
        call("pg_ctl", "--pgdata", folder / "data", "--mode", "immediate", "stop")
        shutil.rmtree(folder)
