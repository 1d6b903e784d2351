"""Attacks that a workflow's code could try, by what they are after; data for the tests.

The marks `@FILE@`, `@FOLDER@`, `@PORT@`, `@PID@` and `@VARIABLE@` are filled in by `abuse_world`.
"""

from __future__ import annotations

from workflow_catalogue import call

__all__ = ["ACTS", "READS", "STRAINS", "reporting"]


def reporting(*lines: str, top: str = "") -> str:
    """A workflow that reports `found`: in an operator call, and as its answer."""
    report = ("await self.custom(str(found)[:9000])", "return str(found)[:9000], 0")
    return top + "\n" * bool(top) + call("found = ''", *lines, *report)


_SEARCH = (  # whatever hangs on an object, three levels deep, as text
    "def walk(thing, depth):",
    "    text = ''",
    "    for name in ('__globals__', '__code__', '__closure__', '__dict__', '__class__', "
    "'__self__', '__func__', '__module__', '__init__', '__builtins__', '__mro__', '__bases__'):",
    "        try:",
    "            part = getattr(thing, name)",
    "            text += str(part)",
    "            if depth: text += walk(part, depth - 1)",
    "        except Exception as error: text += str(error)",
    "    return text",
)

READS: dict[str, str] = {
    "os.environ": reporting("found = dict(os.environ)", top="import os"),
    "os.getenv": reporting("found = os.getenv('@VARIABLE@')", top="import os"),
    "os.environ by from": reporting("found = environ['@VARIABLE@']", top="from os import environ"),
    "open a file": reporting("found = open('@FILE@').read()"),
    "open by with": reporting("with open('@FILE@') as f:", "    found = f.read()"),
    "pathlib": reporting("found = Path('@FILE@').read_text()", top="from pathlib import Path"),
    "io.open": reporting("found = io.open('@FILE@').read()", top="import io"),
    "codecs.open": reporting("found = codecs.open('@FILE@').read()", top="import codecs"),
    "linecache": reporting("found = linecache.getlines('@FILE@')", top="import linecache"),
    "fileinput": reporting("found = list(fileinput.input('@FILE@'))", top="import fileinput"),
    "list a folder": reporting("found = os.listdir('@FOLDER@')", top="import os"),
    "glob": reporting("found = glob.glob('@FOLDER@/*')", top="import glob"),
    "/proc/self/environ": reporting("found = open('/proc/self/environ').read()"),
    "/proc of the host": reporting("found = open('/proc/@PID@/environ').read()"),
    "working directory": reporting("found = os.getcwd()", top="import os"),
    "__file__": reporting("found = __file__"),
    "os.__file__": reporting("found = os.__file__", top="import os"),
    "sys.path and prefix": reporting("found = (sys.path, sys.prefix, sys.argv)", top="import sys"),
    "platform": reporting(
        "found = platform.node() + platform.python_build()[0]", top="import platform"
    ),
    "__subclasses__": reporting("found = ().__class__.__base__.__subclasses__()"),
    "subclasses to os": reporting(
        "for c in object.__subclasses__():",
        "    if c.__name__ == '_wrap_close': found = c.__init__.__globals__['environ']",
    ),
    "getattr by parts": reporting(
        "found = getattr(getattr((), '__cl' + 'ass__'), '__ba' + 'se__')"
    ),
    "str.format attribute": reporting("found = '{0.__class__.__init__.__globals__}'.format(self)"),
    "format_map attribute": reporting("found = '{s.__class__.__mro__}'.format_map({'s': self})"),
    "format of an operator": reporting("found = '{0.__call__.__globals__}'.format(self.custom)"),
    "private attributes of self.llm": reporting("found = (self.llm.__dict__, self.llm._session)"),
    "globals of the host function": reporting("found = _host_operator.__globals__"),
    "everything of the host function": reporting(*_SEARCH, "found = walk(_host_operator, 2)"),
    "everything of an operator": reporting(*_SEARCH, "found = walk(self.custom, 2)"),
    "everything of self.llm": reporting(*_SEARCH, "found = walk(self.llm, 2)"),
    "closure and code": reporting(
        "f = lambda: self", "found = (f.__closure__, f.__code__.co_filename)"
    ),
    "a class by type()": reporting("T = type('T', (), {'x': 1})", "found = T.__dict__"),
    "a metaclass": reporting(
        "class M(type):",
        "    def __new__(m, n, b, d): return type.__new__(m, n, b, {'d': globals()})",
        "class C(metaclass=M): pass",
        "found = C.d",
    ),
    "gi_frame": reporting("g = (i for i in [1])", "found = g.gi_frame.f_back.f_globals"),
    "gi_frame of yield": reporting("def g(): yield 1", "found = g().gi_frame.f_builtins"),
    "cr_frame": reporting("c = self.custom('x')", "found = c.cr_frame.f_globals", "await c"),
    "tb_frame": reporting(
        "try: 1 / 0", "except Exception as e: found = e.__traceback__.tb_frame.f_globals"
    ),
    "traceback of a host error": reporting(
        "try: await self.custom('fail')",
        "except Exception as e: found = (e, e.args, e.__cause__, e.__context__, e.__traceback__)",
    ),
    "frames of a host error": reporting(
        "try: await self.custom('fail')",
        "except Exception as e: found = e.__traceback__.tb_next.tb_frame.f_locals",
    ),
    "AttributeError.obj": reporting(
        "try: self.nothing",
        "except AttributeError as e: found = (e.obj.__dict__, e.name)",
    ),
    "a decorator that executes": reporting("@exec", "def f(): pass", "found = f"),
    "eval": reporting("found = eval(\"__import__('os').environ\")"),
    "exec": reporting("exec(\"import os; found = os.environ['@VARIABLE@']\")", "found = locals()"),
    "compile": reporting("found = eval(compile(\"open('@FILE@').read()\", 'x', 'eval'))"),
    "__import__": reporting("found = __import__('os').environ"),
    "__builtins__": reporting("found = __builtins__['open']('@FILE@').read()"),
    "builtins module": reporting("found = builtins.open('@FILE@').read()", top="import builtins"),
    "importlib": reporting("found = importlib.import_module('os').environ", top="import importlib"),
    "sys.modules": reporting("found = sys.modules['os'].environ", top="import sys"),
    "re to os": reporting("found = re.enum.sys.modules['os'].environ", top="import re"),
    "random to os": reporting("found = random._os.environ", top="import random"),
    "json to os": reporting(
        "found = json.codecs.builtins.open('@FILE@').read()", top="import json"
    ),
    "asyncio to os": reporting("found = asyncio.base_events.os.environ", top="import asyncio"),
    "the package itself": reporting(
        "found = errors.os.environ", top="import aflow_grpo.errors as errors"
    ),
    "pydantic_monty itself": reporting("found = pydantic_monty.os", top="import pydantic_monty"),
    "match class pattern": reporting(
        "match self:", "    case object(__class__=c): found = c.__init__.__globals__"
    ),
    "globals, locals, vars": reporting("found = (globals(), locals(), vars(self))"),
    "dir of everything": reporting("found = [(n, dir(n)) for n in dir()]"),
    "sys._getframe": reporting("found = sys._getframe(3).f_locals", top="import sys"),
    "inspect.stack": reporting("found = inspect.stack()", top="import inspect"),
    "gc.get_objects": reporting("found = gc.get_objects()", top="import gc"),
    "ctypes": reporting("found = ctypes.string_at(id(self), 999)", top="import ctypes"),
    "id as an address": reporting("found = memoryview(id(self))"),
    "pickle reduce": reporting(
        "found = pickle.loads(b\"cos\\ngetenv\\n(S'@VARIABLE@'\\ntR.\")", top="import pickle"
    ),
    "marshal": reporting(
        "found = marshal.dumps(type(self).__call__.__code__)", top="import marshal"
    ),
    "warnings to sys": reporting("found = warnings.sys.modules", top="import warnings"),
    "breakpoint": reporting("breakpoint()"),
    "input": reporting("found = input('@FILE@')"),
    "help": reporting("found = help('modules')"),
}
ACTS: dict[str, str] = {
    "write a file": reporting("open('@FOLDER@/x', 'w').write('x')"),
    "append to a file": reporting("open('@FILE@', 'a').write('x')"),
    "write by pathlib": reporting(
        "Path('@FOLDER@/x').write_text('x')", top="from pathlib import Path"
    ),
    "remove a file": reporting("os.remove('@FILE@')", top="import os"),
    "make a folder": reporting("os.mkdir('@FOLDER@/x')", top="import os"),
    "remove a tree": reporting("shutil.rmtree('@FOLDER@')", top="import shutil"),
    "tempfile": reporting("tempfile.mkstemp(dir='@FOLDER@')", top="import tempfile"),
    "sqlite": reporting(
        "sqlite3.connect('@FOLDER@/x').execute('create table t(x)')", top="import sqlite3"
    ),
    "os.system": reporting("os.system('touch @FOLDER@/x')", top="import os"),
    "os.popen": reporting("found = os.popen('cat @FILE@').read()", top="import os"),
    "subprocess": reporting(
        "found = subprocess.run(['touch', '@FOLDER@/x'])", top="import subprocess"
    ),
    "asyncio subprocess": reporting(
        "found = await asyncio.create_subprocess_exec('touch', '@FOLDER@/x')", top="import asyncio"
    ),
    "fork bomb": reporting("while True: os.fork()", top="import os"),
    "thread bomb": reporting(
        "while True: threading.Thread(target=lambda: time.sleep(9)).start()",
        top="import threading, time",
    ),
    "multiprocessing": reporting(
        "multiprocessing.Pool(4).map(str, [1])", top="import multiprocessing"
    ),
    "tcp": reporting("socket.create_connection(('127.0.0.1', @PORT@))", top="import socket"),
    "udp": reporting(
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @PORT@))",
        top="import socket",
    ),
    "asyncio connection": reporting(
        "await asyncio.open_connection('127.0.0.1', @PORT@)", top="import asyncio"
    ),
    "urllib": reporting(
        "urllib.request.urlopen('http://127.0.0.1:@PORT@')", top="import urllib.request"
    ),
    "requests": reporting("requests.get('http://127.0.0.1:@PORT@')", top="import requests"),
    "kill the host": reporting("os.kill(@PID@, 9)", top="import os"),
    "kill the parent": reporting("os.kill(os.getppid(), 15)", top="import os"),
    "exit": reporting("exit(0)"),
    "sys.exit": reporting("sys.exit(0)", top="import sys"),
    "os._exit": reporting("os._exit(0)", top="import os"),
    "abort": reporting("os.abort()", top="import os"),
    "raise SystemExit": reporting("raise SystemExit(0)"),
    "raise KeyboardInterrupt": reporting("raise KeyboardInterrupt"),
    "raise GeneratorExit": reporting("raise GeneratorExit"),
    "patch the host function": reporting(
        "_host_operator.__code__ = None", "self.llm.total_cost = -9"
    ),
    "patch builtins": reporting(
        "import builtins", "builtins.len = lambda x: 0", "json.dumps = None"
    ),
    "an operator of one's own": reporting("found = await _host_operator('shell', ['id'], {})"),
    "an operator by a forged name": reporting(
        "self.custom._name = self.custom.name = self.custom.attribute = 'shell'",
        "found = await self.custom('id')",
    ),
    "arguments that are no text": reporting("found = await _host_operator('custom', [self], {})"),
    "keyword that is no text": reporting("found = await _host_operator('custom', [], {1: 2})"),
    "forged instruction": reporting("found = await self.custom('x', __class__='y', _session=1)"),
}
STRAINS: dict[str, str] = {
    "while True": reporting("while True: pass"),
    "while True that catches": reporting(
        "while True:", "    try:", "        while True: pass", "    except BaseException: pass"
    ),
    "finally that loops": reporting("try: 1 / 0", "finally:", "    while True: pass"),
    "loop at module level": "while True: pass\n" + call("return 1, 0"),
    "loop in __init__": "class W:\n    def __init__(self):\n        while True: pass\n"
    "    async def __call__(self, problem):\n        return 1, 0\n",
    "loop in __str__": reporting(
        "class T:", "    def __str__(self):", "        while True: pass", "found = str(T())"
    ),
    "list bomb": reporting("x = [0]", "while True: x += x"),
    "dictionary bomb": reporting("x = {}", "while True: x[len(x)] = 'x' * 1000"),
    "str multiply": reporting("found = len('x' * 3 * 10 ** 9)"),
    "bytes of 3 GB": reporting("found = len(bytes(3 * 10 ** 9))"),
    "list of a range": reporting("found = len(list(range(10 ** 9)))"),
    "huge power": reporting("found = 10 ** 10 ** 9 % 7"),
    "nested power": reporting("x = 3 ** 1000000", "while True: x = x * x"),
    "shift": reporting("found = (1 << 10 ** 10) % 7"),
    "digits of a huge number": reporting("found = len(str(7 ** 10 ** 6))"),
    "factorial": reporting("found = math.factorial(10 ** 7) % 7", top="import math"),
    "regex bomb": reporting("found = re.match('(a+)+$', 'a' * 40 + 'b')", top="import re"),
    "regex of many groups": reporting(
        "found = re.compile('(' * 9999 + ')' * 9999)", top="import re"
    ),
    "deep recursion": reporting("def f(n): return f(n + 1)", "found = f(0)"),
    "mutual recursion": reporting("def f(): return g()", "def g(): return f()", "found = f()"),
    "awaiting oneself": reporting("async def f(): return await f()", "found = await f()"),
    "recursion in repr": reporting("x = []", "for _ in range(10 ** 5): x = [x]", "found = repr(x)"),
    "comparing deep lists": reporting(
        "x, y = [], []", "for _ in range(10 ** 5): x, y = [x], [y]", "found = x == y"
    ),
    "list that holds itself": reporting("x = []", "x.append(x)", "found = (x == x, json.dumps(x))"),
    "deep parentheses": reporting("found = " + "(" * 3000 + ")" * 3000),
    "many unary operators": reporting("found = " + "-" * 20000 + "1"),
    "long chain of attributes": reporting("found = self" + ".x" * 20000),
    "format width": reporting("found = len('{:>3000000000}'.format(1))"),
    "f-string width": reporting("found = len(f'{1:>3000000000}')"),
    "percent width": reporting("found = len('%3000000000d' % 1)"),
    "str.replace": reporting("found = len(('a' * 10 ** 6).replace('a', 'b' * 10 ** 6))"),
    "str.join": reporting("found = len(('x' * 10 ** 6).join(['y'] * 10 ** 6))"),
    "str.zfill": reporting("found = len('1'.zfill(3 * 10 ** 9))"),
    "sorted by a growing key": reporting(
        "x = [1] * 10 ** 6", "found = sorted(range(10 ** 6), key=lambda i: x.append(i) or len(x))"
    ),
    "itertools.product": reporting(
        "found = len(list(itertools.product(range(99), repeat=9)))", top="import itertools"
    ),
    "itertools.count": reporting("found = sum(itertools.count())", top="import itertools"),
    "print flood": reporting("while True: print('x' * 10 ** 5)"),
    "time.sleep": reporting("time.sleep(10 ** 6)", top="import time"),
    "asyncio.sleep": reporting("await asyncio.sleep(10 ** 6)", top="import asyncio"),
    "sleeping for ever": reporting("while True: await asyncio.sleep(1)", top="import asyncio"),
    "gather of a million": reporting(
        "found = await asyncio.gather(*[self.custom('x') for _ in range(10 ** 6)])",
        top="import asyncio",
    ),
    "operators for ever": reporting("while True: await self.custom('x')"),
    "operators for ever, caught": reporting(
        "while True:", "    try: await self.custom('x')", "    except BaseException: pass"
    ),
    "argument of 100 MB": reporting("await self.custom('x' * 10 ** 8)"),
    "answer of 50 MB": call("return 'x' * (5 * 10 ** 7), 0"),
    "answer nested deeply": call("x = []", "for _ in range(10 ** 5): x = [x]", "return x, 0"),
    "answer of many digits": call("return 10 ** 10 ** 5, 0"),
    "undefined names for ever": reporting(
        "while True:", "    try: missing", "    except NameError: pass"
    ),
    "colliding keys": reporting("found = len({i * (2 ** 61 - 1): 0 for i in range(10 ** 6)})"),
}
