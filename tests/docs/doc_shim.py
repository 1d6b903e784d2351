"""Stands in for a program in the tests of the pages: passes the call on to `doc_zygote`.

Run by `python -I -S`, so that it starts in hundredths of a second. What it passes on are the words,
the environment, the directory and the three standard streams; it ends with the call's exit code.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Ask the zygote and wait."""
    call = {"words": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}
    body = json.dumps(call).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["DOC_ZYGOTE"])
        socket.send_fds(line, [len(body).to_bytes(8, "big")], [0, 1, 2])
        line.sendall(body)
        answers = line.makefile("rb")
        pid = int(answers.readline() or 0)
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda number, _: os.kill(pid, number))
        code = answers.readline()
    return int(code or 70)


if __name__ == "__main__":
    sys.exit(main())
