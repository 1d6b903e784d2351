"""Candidates that try to pass without being right, against every form of test.

The forms are those of MBPP (plain assertions) and HumanEval (a `check` with loops and helpers).
"""

from __future__ import annotations

import pytest
from sandbox_steps import Steps

from aflow_grpo.sandbox.judge import judge

_SUM = 424242
_FORMS = {
    "plain": f"assert f(212121, 212121) == {_SUM}",
    "message": f"assert f(400000, 24242) == {_SUM}, 'wrong'",
    "within": f"assert abs(f(212121, 212121) - {_SUM}) < 1e-6",
    "in a list": f"assert [f(212121, 212121)] == [{_SUM}]",
    "truth of a comparison": f"assert not f(212121, 212121) != {_SUM}",
    "comprehension": f"assert all(f(x, {_SUM} - x) == {_SUM} for x in (1, 2))",
    "loop": f"for x in (1, 2, 3):\n    assert f(x, {_SUM} - x) == {_SUM}",
    "check": (
        f"def check(candidate):\n    for x in (1, 2):\n        assert candidate(x, {_SUM} - x) == "
        f"{_SUM}\n    assert True\ncheck(f)"
    ),
    "helper": f"result = f(212121, 212121)\nassert close(result, {_SUM})",
}
_SETUP = "import math\ndef close(a, b):\n    return math.fabs(a - b) < 1e-6\n"

_EVERY = "    seen += [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple, str)]\n"
_LOOK = "    return int(wanted) if any(wanted in text for text in seen) else 0\n"
_WANTED = "    wanted = ''.join(['42', '42', '42'])\n    seen = []\n"
CHEATS = {
    "equal to everything": (
        "class A:\n    __eq__ = __ne__ = __lt__ = __bool__ = lambda *a: True\n    __hash__ = None\n"
        "    __sub__ = __rsub__ = __abs__ = lambda s, *a: s\ndef f(*a): return A()"
    ),
    "an int that equals everything": (
        "class A(int):\n    __eq__ = __lt__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
        "    __sub__ = __rsub__ = __abs__ = lambda s, *a: A(0)\n    __hash__ = int.__hash__\n"
        "def f(*a): return A(0)"
    ),
    "a list that equals everything": (
        "class A(list):\n    __eq__ = __lt__ = lambda s, o: True\n"
        "    __ne__ = lambda s, o: False\ndef f(*a): return A()"
    ),
    "sys.exit in the call": "import sys\ndef f(*a): sys.exit(0)",
    "os._exit in the call": "import os\ndef f(*a): os._exit(0)",
    "os._exit at import": "import os\ndef f(*a): return 0\nos._exit(0)",
    "exit by atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(*a): return 0",
    "exit by a signal": (
        "import os, signal\nsignal.signal(15, lambda *a: os._exit(0))\n"
        "def f(*a): os.kill(os.getpid(), 15)"
    ),
    "exec of another program": "import os\ndef f(*a): os.execv('/bin/true', ['true'])",
    "no assertions": (
        "import builtins\nclass AssertionError(Exception):\n    def __new__(*a): return None\n"
        "builtins.AssertionError = AssertionError\n__debug = False\ndef f(*a): return 0"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.bool = builtins.abs = builtins.all = lambda *a: True\n"
        "builtins.repr = lambda x: '424242'\nbuiltins.isinstance = lambda *a: True\n"
        "def f(*a): return 0"
    ),
    "patched libraries": (
        "import copy, json, math, operator, random\nmath.fabs = lambda x: 0\n"
        "json.dumps = lambda *a, **k: '424242'\ncopy.deepcopy = lambda x: 424242\n"
        "operator.eq = lambda *a: True\ndef f(*a): return 0"
    ),
    "helpers of its own": (
        "def close(a, b): return True\ndef check(c): pass\n"
        "__judged_run = lambda: [[], {}, [], '']\n"
        "def f(*a): return 0"
    ),
    "patched runner": (
        "import sys\nfor m in list(sys.modules.values()):\n"
        "    if 'sandbox' in getattr(m, '__name__', ''):\n        m.dumps = lambda v: 'true'\n"
        "        m._evaluate = lambda *a: {'ok': True, 'value': 'true'}\n"
        "def f(*a): return True"
    ),
    "true into every handle": (
        "import os\ndef f(*a):\n    for fd in range(64):\n        try:\n"
        '            os.write(fd, b\'{"ok": true, "value": "true"}\\n\' * 9)\n'
        "        except OSError: pass\n    return 0"
    ),
    "true on the channel, then exit": (
        "import os\ndef f(*a):\n"
        '    os.write(3, b\'{"ok": true, "value": "true"}\\n\' * 9)\n    os._exit(0)'
    ),
    "a replay's answer on the channel": (
        "import os\ndef f(*a):\n"
        '    os.write(3, b\'{"ok": true, "value": "[\\\\"list\\\\"]"}\\n\')\n'
        "    os._exit(0)"
    ),
    "a trace function": (
        "import sys\ndef t(frame, *a):\n    frame.f_locals['ok'] = True\n    return t\n"
        "sys.settrace(t)\nsys.setprofile(t)\ndef f(*a): return 0"
    ),
    "reading frames": (
        f"import sys\ndef f(*a):\n{_WANTED}    frame = sys._getframe().f_back\n"
        "    while frame:\n        seen.append(repr(frame.f_locals) + repr(frame.f_globals))\n"
        f"        frame = frame.f_back\n{_LOOK}"
    ),
    "reading the heap": f"import gc\ndef f(*a):\n    gc.unfreeze()\n{_WANTED}{_EVERY}{_LOOK}",
    "reading its memory": (
        f"def f(*a):\n{_WANTED}    try:\n        maps = open('/proc/self/maps').read()\n"
        "        memory = open('/proc/self/mem', 'rb')\n        for line in maps.splitlines():\n"
        "            low, high = (int(x, 16) for x in line.split()[0].split('-'))\n"
        "            memory.seek(low)\n            seen.append(repr(memory.read(high - low)))\n"
        f"    except OSError: pass\n{_LOOK}"
    ),
    "reading other processes": (
        f"import os\ndef f(*a):\n{_WANTED}    for pid in ('self', os.getppid(), 1):\n"
        "        for name in ('cmdline', 'environ', 'mem', 'fd/3'):\n            try:\n"
        "                seen.append(open(f'/proc/{pid}/{name}', 'rb').read().decode('latin1'))\n"
        f"            except OSError: pass\n{_LOOK}"
    ),
    "reading the channel": (
        "import fcntl, os\n"
        f"def f(*a):\n{_WANTED}    for fd in range(64):\n        try:\n"
        "            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)\n"
        "            seen.append(os.read(fd, 1 << 16).decode('latin1'))\n"
        f"        except OSError: pass\n{_LOOK}"
    ),
    "reading source lines": (
        "import linecache, sys\n"
        f"def f(*a):\n{_WANTED}    seen += [repr(linecache.cache), repr(sys.argv)]\n"
        "    seen += [repr(vars(m)) for m in list(sys.modules.values()) "
        f"if getattr(m, '__name__', '') == 'solution']\n{_LOOK}"
    ),
}


def _passed(steps: Steps, candidate: str) -> dict[str, bool]:
    tests = list(_FORMS.values())
    work = judge(steps.sandbox, candidate, "f", tests, setup=_SETUP, timeout_s=2)
    return dict(zip(_FORMS, steps.wait(work).passed, strict=True))


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_passes_no_test(jail: Steps, name: str) -> None:
    assert not any(_passed(jail, CHEATS[name]).values()), name


def test_an_honest_candidate_passes_them_all(jail: Steps) -> None:
    assert all(_passed(jail, "def f(a, b): return a + b").values())


@pytest.mark.parametrize("where", ["frames", "the heap", "source lines"])
def test_what_a_search_may_see_it_finds(jail: Steps, where: str) -> None:
    """The control: the number as an argument is found by those that get to look anywhere."""
    name = f"reading {where}"
    shown = f"assert f({_SUM}, 0) == {_SUM}"
    source = CHEATS[name].replace("def f(*a):\n", "def f(*a):\n    global kept\n    kept = a\n")
    assert jail.wait(judge(jail.sandbox, source, "f", [shown])).all_passed


@pytest.mark.parametrize("name", ["equal to everything", "helpers of its own", "patched builtins"])
def test_the_fallback_is_not_fooled_either(monty: Steps, name: str) -> None:
    assert not any(_passed(monty, CHEATS[name]).values()), name
