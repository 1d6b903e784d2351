"""A process that has imported everything once and forks for every command of the pages.

A command of `aflow-grpo` spends most of its time on imports, and the pages have a hundred. A forked
one is the same program with the same words, environment, directory and streams, in a process of its
own. Python blocks of a page run one after the other in one forked process, as in a notebook.

Not here: which blocks there are (`doc_blocks`), what is shortened (`doc_commands`).
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import gc
import importlib
import inspect
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import types
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
SERVER_STARTS_WITHIN_S = 60
ALONE_WITHIN_S = 5.0
KILLED = 128
FIRST = "fit --config configs/quickstart.yaml"
"""The first command of the pages, which several of them have."""
PARSERS: dict[str, Any] = {}
"""Those of the trainer verbs, made once."""


def main(address: str) -> None:
    """Fork for each call that comes; a fork leaves the loop and works."""
    sys.path.insert(0, str(HERE))
    _import_everything()
    empty = _empty_lab_book(Path(address).with_name("mlflow.db"))
    # Of no use to any fork, and each would spend seconds on looking through it when it ends.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(ALONE_WITHIN_S)
        tests = os.getppid()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the handlers
        while os.getppid() == tests:  # they may have been killed
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                break
            line.close()
        else:
            return
    _handle(line, empty)


def _empty_lab_book(path: Path) -> Path:
    """MLflow's empty tables, which take seconds to make; in a fork, so that nothing stays open."""
    child = os.fork()
    if child == 0:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{path}", path.parent.as_uri()).engine.dispose()
        os._exit(0)
    os.waitpid(child, 0)
    return path


def _import_everything() -> None:
    for name in (
        "aflow_grpo.cli",
        "aflow_grpo.__main__",
        "mlflow.store.tracking.sqlalchemy_store",
        "matplotlib.pyplot",
    ):
        importlib.import_module(name)
    from aflow_grpo.verbs import TRAINER_VERBS, VERBS

    for verb in VERBS:
        if verb.name not in TRAINER_VERBS:
            with suppress(ModuleNotFoundError):
                importlib.import_module(f"aflow_grpo.commands.{verb.name}")
    from aflow_grpo.cli import trainer_parser

    # Making one takes a second or two, and parsing a fraction of that.
    above = trainer_parser("fit").parent_parser
    PARSERS.update(above._subcommands_action._name_parser_map)


def _handle(line: socket.socket, empty: Path) -> None:
    """One call: fork the worker, tell its id, wait, tell how it ended."""
    head, streams, _, _ = socket.recv_fds(line, 8, 3)
    length = int.from_bytes(head, "big")
    call = json.loads(line.makefile("rb").read(length))
    worker = os.fork()
    if worker == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["directory"])
        folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:0] = [os.path.abspath(folder) for folder in folders if folder]
        if call["words"]:
            line.close()
            _leave(_ended(call["words"], empty))
        _notebook(line)
        _leave(0)
    for stream in streams:
        os.close(stream)
    line.sendall(b"%d\n" % worker)
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(BrokenPipeError):
        line.sendall(b"%d\n" % (code if code >= 0 else KILLED - code))
    os._exit(0)


def _ended(words: Sequence[str], empty: Path) -> int:
    """The exit code of a program, however it ends."""
    try:
        return _run(words, empty)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _leave(code: int) -> NoReturn:
    """End as a program does, but for taking every imported module apart, half a second's work."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


# Programs


def _run(words: Sequence[str], empty: Path) -> int:
    """One program; returns its exit code.

    Args:
        words: Its name and its arguments.
        empty: MLflow's tables without a row.
    """
    from doc_commands import ENDS_WITH, PROGRAMS, check_nox, check_pip, ends_with, parsed

    from aflow_grpo.verbs import TRAINER_VERBS

    program, *rest = words
    if program == "nox":
        return check_nox(rest)
    if program == "pip":
        return check_pip(rest)
    if program in PROGRAMS:
        return 0
    if program == "overlay":
        return _parse_only(["fit", "--config", *rest])
    if program == "mlflow":
        return _serve(words)
    if rest[:1] == ["simulate"] and "--help" not in rest:
        return _serve(words)
    if parsed(rest) is not None:
        return _parse_only(rest)
    if rest[:1] and rest[0] in TRAINER_VERBS and not {"--help", "--print_config"} & {*rest}:
        if rest == FIRST.split() and (first := os.environ.get("DOC_FIRST_RUN")):
            # Every process of the tests has really run it, once.
            shutil.copytree(first, "runs/quickstart", dirs_exist_ok=True)
            return 0
        rest = _prepared(rest, empty)
    code = _aflow_grpo(rest)
    expected = ends_with(rest)
    return code if expected is None else abs(code - ENDS_WITH[expected][0])


def _aflow_grpo(words: Sequence[str]) -> int:
    from doc_commands import shorter

    from aflow_grpo.__main__ import main as command

    sys.argv[:] = ["aflow-grpo", *shorter(words)]
    return command()


def _parse_only(words: Sequence[str]) -> int:
    """The real parser, and nothing after it."""
    from aflow_grpo.verbs import TRAINER_VERBS

    if words[0] in TRAINER_VERBS:
        return _parse_settings(words)
    importlib.import_module(f"aflow_grpo.commands.{words[0]}").make_parser().parse_args(words[1:])
    return 0


def _prepared(words: Sequence[str], empty: Path) -> Sequence[str]:
    """A trainer verb's command with few problems to judge on, where they are the sample's.

    MLflow's empty tables are put where the command would make them, if there are none.
    """
    from aflow_grpo.trainer_options import as_written

    known = [word for word in as_written(words[1:]) if word != "--preflight"]
    try:
        settings = PARSERS[words[0]].parse_args(known)
    except SystemExit:
        return words  # the command itself says what is wrong
    root = Path(settings.trainer.default_root_dir)
    if not (root / "mlflow.db").exists():
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty, root / "mlflow.db")
    judged = "val" if words[0] in ("fit", "validate") else "test"
    sources = [source.dataset for source in settings.data[judged]]
    if not {*sources} <= {"sample", "generated"}:
        return words
    few = empty.with_name(f"few-{judged}.jsonl")
    return [*words, f"--data.{judged}", f"[{{dataset: jsonl, path: '{few}'}}]"]


def _parse_settings(words: Sequence[str]) -> int:
    """What `TrainerCLI` does before it makes anything."""
    from aflow_grpo.errors import ConfigError
    from aflow_grpo.mistakes import refuse_ignored
    from aflow_grpo.trainer_options import as_written, check_trainer_settings

    parser = PARSERS[words[0]]
    settings = parser.parse_args([word for word in as_written(words[1:]) if word != "--preflight"])
    try:
        refuse_ignored(settings, parser.option_names)
        check_trainer_settings(settings)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(words: Sequence[str]) -> int:
    """A server as in another terminal: started, waited for until it answers, left running."""
    if "--port" not in words:
        words = [*words, "--port", str(free_port())]
    port = int(words[words.index("--port") + 1])
    server = os.fork()
    if server == 0:
        os.setsid()
        if words[0] == "mlflow":
            os.execvp(sys.executable, [sys.executable, "-m", *words, "--workers", "1"])
        sys.exit(_aflow_grpo(words[1:]))
    with open(os.environ["DOC_SERVERS"], "a") as file:
        file.write(f"{server}\n")
    give_up = time.monotonic() + SERVER_STARTS_WITHIN_S
    while time.monotonic() < give_up:
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) or 1
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return 0
        except urllib.error.HTTPError:
            return 0  # an answer, too: the simulator has nothing at /
        except OSError:
            time.sleep(0.05)
    print(f"{' '.join(words)}: no answer on port {port}", file=sys.stderr)
    return 1


# Python blocks


def _notebook(line: socket.socket) -> None:
    """Run the blocks that come, one JSON text a line, in one `__main__`, and answer each."""
    here = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = [""]
    sys.path.insert(0, "")
    with line, line.makefile("r", encoding="utf-8") as blocks:
        for text in blocks:
            given = json.loads(text)
            trouble = ""
            try:
                _run_block(given["code"], given["where"], here.__dict__)
            except BaseException:
                trouble = traceback.format_exc()
            sys.stdout.flush()
            line.sendall(json.dumps({"trouble": trouble}).encode() + b"\n")


def _run_block(code: str, where: str, names: dict[str, Any]) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code, where, "exec", flags=flags, dont_inherit=True)
    made = eval(compiled, names)
    if inspect.iscoroutine(made):
        asyncio.run(made)


if __name__ == "__main__":
    main(sys.argv[1])
