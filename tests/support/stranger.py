"""Another account of this machine, which tries what it is told to: real requests and real files, as `nobody`."""

import json
import os
import subprocess
import sys

CAN_BE_ANOTHER = os.name == "posix" and os.geteuid() == 0
NOT_ROOT = "only root can become another account"
NOBODY = 65534

# Imports first: afterwards Python's own files may be out of reach.
SCRIPT = """
import encodings.idna, fcntl, http.client, json, os, socket, sys
wishes = json.load(sys.stdin)
os.setgroups([])
os.setgid({nobody})
os.setuid({nobody})

def ask(port, method, path, headers, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return [answer.status, answer.read().decode("latin-1")]
    except (OSError, http.client.HTTPException) as error:
        return [0, type(error).__name__]

def read(path):
    try:
        if os.path.isdir(path):
            return "|".join(os.listdir(path))
        with open(path, "rb") as file:
            return file.read(1_000_000).decode("latin-1")
    except OSError:
        return None

def lock(path):
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False

json.dump(dict(
    asked=[ask(*wish) for wish in wishes.get("ask", [])],
    read=[read(path) for path in wishes.get("read", [])],
    locked=[lock(path) for path in wishes.get("lock", [])],
), sys.stdout)
"""


def as_stranger(*, ask=(), read=(), lock=()):
    """Return what another account gets.

    Args:
        ask: requests to 127.0.0.1: port, method, path, headers, body.
        read: files and folders.
        lock: files.

    Returns:
        Lists under `asked` (status and text; 0 without an answer), `read` (text, None if refused) and `locked`.
    """
    wishes = {"ask": list(ask), "read": [str(path) for path in read], "lock": [str(path) for path in lock]}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(nobody=NOBODY)],
        input=json.dumps(wishes),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
