"""Nothing leaves the machine unasked: fit, validate and test try no connection but to themselves.

An audit hook in the process notes every connection and every look-up of a name that is not
loopback. It is installed before anything else, by `sitecustomize`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from trainer_runs import new_root, write_settings

WATCHER = """
import json, os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1] if len(arguments) > 1 else None
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host is not None:
        with open(os.environ["WATCHED"], "a") as file:
            file.write(json.dumps([event, host]) + "\\n")

sys.addaudithook(watch)
"""
VERBS = """
import sys
from aflow_grpo.__main__ import main
given = sys.argv[1:]
for verb in ("fit", "validate", "test"):
    resume = [] if verb == "fit" else ["--ckpt_path=last"]
    code = main([verb, *given, *resume])
    assert code == 0, (verb, code)
"""
SWITCHES = (
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
    "MLFLOW_DISABLE_TELEMETRY",
)
"""What the command line sets by itself, and a user may not have set."""
HERE = ("127.0.0.1", "::1", "localhost")


def watched(folder: Path, program: str, *arguments: str) -> list[tuple[str, str]]:
    """(event, host) of every connection and look-up that `program` tried."""
    (folder / "sitecustomize.py").write_text(WATCHER)
    notes = folder / "watched.jsonl"
    notes.touch()
    environment = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    environment |= {"PYTHONPATH": str(folder), "WATCHED": str(notes)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in notes.read_text().splitlines()]


def test_the_three_verbs_talk_to_this_machine_only(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    settings = write_settings(tmp_path, trainer__max_steps=3)
    seen = watched(tmp_path, VERBS, f"--config={settings}", f"--trainer.default_root_dir={root}")
    assert [(event, host) for event, host in seen if host not in HERE] == []
    assert ("socket.connect", "127.0.0.1") in seen, "the simulator; so the watch is on"


def test_the_watch_sees_what_would_leave(tmp_path: Path) -> None:
    """Not sent: the name is looked up, and an address of a documentation network refused."""
    program = (
        "import contextlib, socket\n"
        "with contextlib.suppress(OSError): socket.getaddrinfo('nowhere.invalid', 443)\n"
        "with contextlib.suppress(OSError), socket.socket() as s:\n"
        "    s.setblocking(False); s.connect(('192.0.2.1', 9))\n"
    )
    hosts = {host for _, host in watched(tmp_path, program)}
    assert hosts == {"nowhere.invalid", "192.0.2.1"}
