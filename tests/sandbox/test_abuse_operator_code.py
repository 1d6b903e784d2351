"""Attacks by code that operators run: none leaks, hangs, or reaches the host or another job.

They run in the jail only, never without it. A door counts as closed when the kernel says so (an
OSError), not because the attack was badly written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from abuse_world import World, descendants, world
from sandbox_steps import Steps

from aflow_grpo.sandbox.results import SandboxResult

_PRELUDE = """
import ctypes, fcntl, glob, mmap, os, resource, signal, socket, subprocess, sys, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
def system(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), 'refused')
def attempt(text):
    try:
        return 'DONE ' + repr(eval(text))
    except (OSError, subprocess.SubprocessError) as error:
        return 'refused: ' + type(error).__name__
    except Exception as error:
        return f'{type(error).__name__}: {error}'
"""
DENIED = {
    "read the secret file": "open('@FILE@').read()",
    "read a host file": "open('/etc/passwd').read()",
    "read a host file by os.open": "os.read(os.open('/etc/passwd', os.O_RDONLY), 99)",
    "read through a dot path": "open('/usr/lib/../../etc/passwd').read()",
    "read through its root": "open('/proc/self/root/etc/passwd').read()",
    "list a host folder": "os.listdir('@FOLDER@')",
    "list the root's home": "os.listdir('/root') or os.listdir('/home')",
    "list the root": "os.listdir('/')",
    "read the checkout": "open(__import__('aflow_grpo').__file__).read()",
    "read its own environment": "open('/proc/self/environ').read()",
    "read its parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "read the host's environment": "open('/proc/@PID@/environ').read()",
    "read its parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb').read(9)",
    "read its own map": "open('/proc/self/maps').read()",
    "read a disk": "open('/dev/sda', 'rb').read(9)",
    "open a terminal": "open('/dev/tty', 'w')",
    "write a file": "open('@FOLDER@/x', 'w')",
    "write to /tmp": "open('/tmp/aflow-grpo-attack', 'w')",
    "write shared memory": "open('/dev/shm/aflow-grpo-attack', 'w')",
    "append to the secret file": "open('@FILE@', 'a')",
    "fill the disk": "[open(f'@FOLDER@/{i}', 'wb').write(bytes(1 << 20)) for i in range(99)]",
    "truncate the secret file": "os.truncate('@FILE@', 0)",
    "truncate a library file": "os.truncate(os.__file__, 0)",
    "overwrite a library file": "open(os.__file__, 'r+')",
    "remove a library file": "os.unlink(os.__file__)",
    "remove the secret file": "os.unlink('@FILE@')",
    "rename the secret file": "os.rename('@FILE@', '@FOLDER@/x')",
    "make a folder": "os.mkdir('@FOLDER@/x')",
    "make a link": "os.symlink('/etc', '@FOLDER@/x')",
    "make a hard link": "os.link('@FILE@', '@FOLDER@/x')",
    "make a pipe in a folder": "os.mkfifo('@FOLDER@/x')",
    "change a mode": "os.chmod('@FILE@', 0o777)",
    "change an owner": "os.chown('@FILE@', 1, 1)",
    "change a time": "os.utime('@FILE@')",
    "temporary file": "tempfile.TemporaryFile()",
    "anonymous file": "os.memfd_create('x')",
    "change the root": "os.chroot('/tmp')",
    "open tcp": "socket.create_connection(('127.0.0.1', @PORT@))",
    "listen on tcp": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "open udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "open ipv6": "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
    "open a raw socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "open a unix socket": "socket.socket(socket.AF_UNIX)",
    "open netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "resolve a name": "socket.getaddrinfo('localhost.invalid', 80)",
    "send to a path": "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', '/dev/log')",
    "send to an abstract name": (
        "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', chr(0) + 'x')"
    ),
    "fork": "os.fork()",
    "200 forks": "[os.fork() for _ in range(200)]",
    "a daemon": "os.fork() or os.setsid() or os.fork()",
    "start a program": "os.execv('/bin/true', ['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "a shell": "subprocess.run('id', shell=True)",
    "subprocess": "subprocess.run(['true'])",
    "signal the zygote": "os.kill(os.getppid(), 9)",
    "signal the host": "os.kill(@PID@, 9)",
    "stop the zygote": "os.kill(os.getppid(), signal.SIGSTOP)",
    "signal everybody": "os.kill(-1, 0)",
    "signal the group": "os.killpg(0, 9)",
    "signal by a queue": "system(129, os.getppid(), 9, 0)",
    "signal through fcntl": "fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
    "a handle of the zygote": "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
    "limit the zygote": "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))",
    "raise its priority": "os.setpriority(os.PRIO_PROCESS, 0, -5)",
    "change user": "os.setuid(65534)",
    "change group": "os.setgid(65534)",
    "leave the session": "os.setsid()",
}
_BY_OTHER_ERROR = {
    "raise a limit": "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))",
    "raise the limit of memory": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raise the limit of time": "resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "a thread": "__import__('_thread').start_new_thread(print, ())",
    "999 threads": (
        "[__import__('threading').Thread(target=time.sleep, args=(9,)).start() for _ in range(999)]"
    ),
    "multiprocessing": "__import__('multiprocessing').get_context('fork').Process().start()",
    "an anonymous mapping of 3 GB": "mmap.mmap(-1, 3 << 30)",
    "another package": "__import__('torch')",
}
"""Refused by Python after the kernel, as another error."""
RAW = {
    "ptrace": (101, 16, "@PPID@", 0, 0),
    "process_vm_readv": (310, "@PPID@", 0, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 0),
    "unshare a user namespace": (272, 0x10000000),
    "clone with namespaces": (56, 0x10000011, 0, 0, 0, 0),
    "setns": (308, 1, 0),
    "pivot_root": (155, 0, 0),
    "open_tree": (428, -100, 0, 1),
    "io_uring_setup": (425, 1, 0),
    "bpf": (321, 0, 0, 0),
    "keyctl": (250, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "execveat": (322, -100, 0, 0, 0, 0),
    "memfd_secret": (447, 0),
    "name_to_handle_at": (303, -100, 0, 0, 0, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "clone3": (435, 0, 0),
    "pidfd_open": (434, "@PPID@", 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "process_madvise": (440, 0, 0, 0, 0, 0),
    "delete the timer of its time": (226, 0),
    "move the timer of its time": (223, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "settimeofday": (164, 0, 0),
    "sethostname": (170, 0, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "msgget": (68, 0, 0o1600),
    "mq_open": (240, 0, 0, 0, 0),
    "inotify_init1": (294, 0),
    "fanotify_init": (300, 0, 0),
    "personality": (135, 0x0040000),
}
"""Name -> number on x86_64 and arguments."""
_ENDLESS = {
    "while True": "while True: pass",
    "while True that catches": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "every signal caught": (
        "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU, signal.SIGINT, signal.SIGALRM,\n"
        "          signal.SIGPROF, signal.SIGVTALRM):\n    signal.signal(s, lambda *a: None)\n"
        "while True: pass"
    ),
    "every signal blocked": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass"
    ),
    "every timer stopped": (
        "import signal\nfor t in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):\n"
        "    signal.setitimer(t, 0)\nwhile True: pass"
    ),
    "a loop in C": "sum(iter(int, 1))",
    "huge numbers": "x = 3 ** 10_000_000\nx = x * x * x * x * x * x",
    "a regular expression": "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    "colliding keys": "x = {i * (2 ** 61 - 1): 0 for i in range(10 ** 6)}",
    "a loop at exit": "import atexit\n@atexit.register\ndef f():\n    while True: pass\nf()",
    "a loop in __del__": "class T:\n    def __del__(self):\n        while True: pass\nT()",
    "many system calls": "import os\nwhile True: os.getppid()",
}
_WAITING = {
    "sleep": "import time\ntime.sleep(1000)",
    "stop oneself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "wait for a signal": "import signal\nsignal.pause()",
    "read a pipe": "import os\nos.read(os.pipe()[0], 1)",
    "wait for a lock": "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()",
    "read its own channel": "import os\nwhile os.read(3, 1): pass",
}
_GREEDY = {
    "bytes of 3 GB": "x = bytearray(3 << 30)",
    "numpy of 3 GB": "import numpy\nx = numpy.ones(3 << 27)",
    "list bomb": "x = [0]\nwhile True: x += x",
    "a string of 3 GB": "x = 'x' * (3 << 30)",
    "many small objects": "x = []\nwhile True: x.append(bytearray(1 << 16))",
}
_FLOODS = {
    "print": "while True: print('x' * 1000)",
    "standard output by handle": "import os\nwhile True: os.write(1, b'x' * 1000)",
    "its channel": "import os\nwhile True: os.write(3, b'x' * 1000)",
}


@pytest.fixture(scope="module")
def around(jail: Steps, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


def _attack(
    jail: Steps, around: World, source: str, *calls: str, **options: float
) -> SandboxResult:
    """Run it, and check what every attack is checked for."""
    below = descendants(os.getpid())
    around.peak_mb = 0.0
    result = jail.run(around.arm(source), *(around.arm(text) for text in calls), **options)
    assert around.leaks(repr(result)) == []
    assert around.changes() == []
    assert around.peak_mb < 600  # the jail's 512 and what reading it costs
    assert descendants(os.getpid()) == below  # the same zygote, no job left
    assert jail.run("x = 1", "x").values[0].value == 1
    return result


@pytest.mark.parametrize("name", DENIED)
def test_the_kernel_closes_the_door(jail: Steps, around: World, name: str) -> None:
    result = _attack(jail, around, _PRELUDE, f"attempt({DENIED[name]!r})")
    assert result.values[0].ok, result
    assert result.values[0].value.startswith("refused: "), result


@pytest.mark.parametrize("name", _BY_OTHER_ERROR)
def test_python_says_that_the_door_is_closed(jail: Steps, around: World, name: str) -> None:
    result = _attack(jail, around, _PRELUDE, f"attempt({_BY_OTHER_ERROR[name]!r})")
    told = result.values[0].value
    assert result.values[0].ok and not told.startswith("DONE"), result
    words = ("Error: ", "refused: ")
    assert any(word in told for word in words), result


@pytest.mark.parametrize("name", RAW)
def test_a_raw_system_call_is_denied(jail: Steps, around: World, name: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("these numbers are of x86_64")
    arguments = ", ".join(map(str, RAW[name])).replace("@PPID@", "os.getppid()")
    result = _attack(jail, around, _PRELUDE, f"attempt('system({arguments})')")
    assert result.values[0].value == "refused: PermissionError", result


def test_a_raw_system_call_that_is_allowed_succeeds(jail: Steps) -> None:
    """The control: 39 is getpid."""
    assert jail.run(_PRELUDE, "attempt('system(39)')").values[0].value == "DONE None"


@pytest.mark.parametrize("name", _ENDLESS)
def test_endless_computing_ends_on_time(jail: Steps, around: World, name: str) -> None:
    result = _attack(jail, around, _ENDLESS[name], "1", timeout_s=0.4)
    words = "did not finish within 0.4 s of processor time"
    assert (result.status, result.error) == ("timeout", words)
    assert 0.39 < result.cpu_seconds < 0.9


@pytest.mark.parametrize("name", _WAITING)
def test_endless_waiting_ends_on_time(jail: Steps, around: World, name: str) -> None:
    result = _attack(jail, around, _WAITING[name], "1", timeout_s=0.1)
    words = "did not finish within 0.4 s of waiting and computing"
    assert (result.status, result.error) == ("timeout", words)
    assert 0.4 <= result.seconds < 0.9


@pytest.mark.parametrize("name", _GREEDY)
def test_memory_ends_at_the_limit(jail: Steps, around: World, name: str) -> None:
    result = _attack(jail, around, _GREEDY[name], "1")
    assert (result.status, result.values[0].ok) == ("memory", False), result


@pytest.mark.parametrize("name", _FLOODS)
def test_output_ends_at_the_limit(jail: Steps, around: World, name: str) -> None:
    started = time.monotonic()
    result = _attack(jail, around, _FLOODS[name], "1")
    assert (result.status, len(result.stdout) <= 20_000) == ("error", True), result
    assert time.monotonic() - started < 4


def test_its_environment_is_empty(jail: Steps, around: World) -> None:
    values = _attack(jail, around, "import os", "dict(os.environ)", "os.getenv('HOME')").values
    assert [value.value for value in values] == [{"OPENBLAS_NUM_THREADS": "1"}, None]


def test_memory_below_the_limit_is_there(jail: Steps) -> None:
    """The jail has 512 MiB: 350 can be had, 520 cannot."""
    result = jail.run("", "len(bytearray(350 << 20)) >> 20", "bytearray(520 << 20)")
    assert (result.values[0].value, result.values[1].error) == (350, "MemoryError")


def test_the_corpus_is_large() -> None:
    groups = (DENIED, _BY_OTHER_ERROR, RAW, _ENDLESS, _WAITING, _GREEDY, _FLOODS)
    assert sum(map(len, groups)) >= 130
