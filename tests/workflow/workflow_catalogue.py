"""Sound and faulty workflows, one defect each: shared by the tests of validation and of running."""

from __future__ import annotations

from aflow_grpo.records import FaultKind

__all__ = ["COST", "FAULTY", "SOUND", "call"]

COST = 'self.llm.get_usage_summary()["total_cost"]'
HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"


def call(*lines: str) -> str:
    """A workflow whose `__call__` has these lines, from line 3 on."""
    return HEAD + "".join(f"        {line}\n" for line in lines).replace("COST", COST)


SOUND: dict[str, str] = {
    "direct": call("r = await self.custom(input=problem)", 'return r["response"], COST'),
    "positional": call('r = await self.custom(problem, "Solve.")', 'return r["response"], 0'),
    "get": call("r = await self.custom(input=problem)", 'return r.get("response", ""), COST'),
    "inline": call('return (await self.custom(input=problem))["response"], COST'),
    "annotated": (
        "from typing import Tuple\nclass Workflow:\n"
        "    async def __call__(self, problem: str, entry_point: str=None) -> Tuple[str, int]:\n"
        "        return problem, 0.0\n"
    ),
    "no entry_point": "class Workflow:\n  async def __call__(self, problem):\n    return 1, 0\n",
    "old class name": "class SolveGraph:\n  async def __call__(self, problem):\n    return 1, 0\n",
    "init": (
        "import workspace.MATH.workflows.template.operator as operator\n"
        "from scripts.async_llm import create_llm_instance\n"
        "class Workflow:\n"
        "    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:\n"
        "        self.llm = create_llm_instance(llm_config)\n"
        "        self.solver = operator.Custom(self.llm)\n"
        "    async def __call__(self, problem):\n"
        "        r = await self.solver(input=problem, instruction='x')\n"
        f"        return r['response'], {COST}\n"
    ),
    "gather of a list": call(
        "rs = await asyncio.gather(*[self.custom(input=problem) for _ in range(3)])",
        "return rs[0]['response'], COST",
    ),
    "gather of names": call(
        "a, b = self.custom(input=problem), self.custom(input='x')",
        "ra, rb = await asyncio.gather(a, b)",
        "return ra['response'], COST",
    ),
    "tasks appended": call(
        "tasks = []",
        "for i in range(2):",
        "    tasks.append(self.custom(input=problem))",
        "rs = await asyncio.gather(*tasks)",
        "return rs[0]['response'], COST",
    ),
    "task bound, then awaited": call(
        "task = self.custom(input=problem)", "r = await task", "return r['response'], COST"
    ),
    "comprehension of awaits": call(
        "rs = [(await self.custom(input=problem))['response'] for _ in range(2)]",
        "return rs[0], COST",
    ),
    "alias": call("op = self.custom", "r = await op(input=problem)", "return r['response'], COST"),
    "walrus": call(
        "if (r := await self.custom(input=problem)):", "    pass", "return r['response'], 1"
    ),
    "lambda": call("f = lambda x: x + '!'", "return f(problem), COST"),
    "f-string": call('return f"{problem!r:>10} {1 + 1:.2f}", COST'),
    "try": call(
        "try:",
        "    r = await self.custom(input=problem)",
        "    return r['response'], COST",
        "except Exception as error:",
        "    return str(error), COST",
    ),
    "while true": call("while True:", "    if problem:", "        return problem, COST"),
    "while with break in an inner loop": call(
        "while True:", "    for _ in range(3):", "        break", "    return problem, COST"
    ),
    "if and else": call("if problem:", "    return 1, COST", "else:", "    return 2, COST"),
    "match": call(
        "match problem:",
        "    case 'a':",
        "        return 1, 0",
        "    case _:",
        "        return 2, 0",
    ),
    "raise at the end": call("if problem:", "    return 1, COST", "raise ValueError(problem)"),
    "tuple by name": call("result = problem, COST", "return result"),
    "helper": (
        "class Workflow:\n"
        "    async def _solve(self, text):\n"
        "        return (await self.custom(input=text))['response'], 0\n"
        "    async def __call__(self, problem):\n"
        "        return await self._solve(problem)\n"
    ),
    "recursion": (
        "class Workflow:\n"
        "    async def go(self, n):\n"
        "        return n if n == 0 else await self.go(n - 1)\n"
        "    async def __call__(self, problem):\n"
        "        return await self.go(3), 0\n"
    ),
    "decorated function": (
        "def twice(f):\n    return f\n@twice\ndef g(x):\n    return x\n"
        + call("return g(problem), 0")
    ),
    "constant above": "PROMPT = 'x'\n" + call("return PROMPT, 0"),
    "starred arguments": call(
        "kw = {'input': problem}", "r = await self.custom(**kw)", "return r['response'], 0"
    ),
    "regular expression": "import re\n" + call(r"return re.findall('\d+', problem)[-1], COST"),
    "rebound result": call(
        "r = await self.custom(input=problem)",
        "r = await self.answer_generate(input=problem)",
        "return r['answer'], COST",
    ),
    "own state": (
        "class Workflow:\n    def __init__(self):\n        self.n = 0\n"
        "    async def __call__(self, problem):\n        self.n += 1\n        return self.n, 0\n"
    ),
}
SOUND = {
    name: "import asyncio\n" + code if "asyncio." in code else code for name, code in SOUND.items()
}


K = FaultKind
FAULTY: dict[str, tuple[str, FaultKind, int | None]] = {
    "syntax": ("class Workflow:\n  def x(:\n", K.SYNTAX_ERROR, 2),
    "lost indentation": ("class Workflow:\nasync def __call__(self): pass", K.SYNTAX_ERROR, 2),
    "await in a plain function": (
        call("def f():", "    await x", "return 1, 2"),
        K.SYNTAX_ERROR,
        4,
    ),
    "no class": ("async def main(problem):\n    return problem, 0\n", K.BAD_STRUCTURE, 1),
    "no call": ("class Workflow:\n    def run(self): return 1\n", K.BAD_STRUCTURE, 1),
    "call not async": (
        "class W:\n    def __call__(self, problem): return 1, 0\n",
        K.BAD_STRUCTURE,
        2,
    ),
    "two classes": (SOUND["direct"] + SOUND["direct"], K.BAD_STRUCTURE, 5),
    "class in a class": (
        "class W:\n  class A:\n    x = 1\n  async def __call__(self, problem): return 1, 0\n",
        K.BAD_STRUCTURE,
        2,
    ),
    "very deep": (call("x = " + "-" * 500 + "1", "return x, 0"), K.BAD_STRUCTURE, 3),
    "a megabyte": (call("x = '" + "y" * 10**6 + "'", "return x, 0"), K.BAD_STRUCTURE, None),
    "the documents' bad signature": (
        "class Workflow:\n    async def __call__(self, problem, code, entry_point, test):\n"
        "        return problem, 0\n",
        K.BAD_SIGNATURE,
        2,
    ),
    "no problem": ("class W:\n    async def __call__(self): return 1, 0\n", K.BAD_SIGNATURE, 2),
    "misnamed": (
        "class W:\n    async def __call__(self, question): return problem, 0\n",
        K.BAD_SIGNATURE,
        2,
    ),
    "no self": ("class W:\n    async def __call__(problem): return 1, 0\n", K.BAD_SIGNATURE, 2),
    "unknown operator": (
        call("r = await self.solve(problem)", "return r, 0"),
        K.UNKNOWN_OPERATOR,
        3,
    ),
    "misspelt operator": (
        call("r = await self.custm(problem)", "return r, 0"),
        K.UNKNOWN_OPERATOR,
        3,
    ),
    "calls the model": (
        call("r = await self.llm.ask(problem)", "return r, 0"),
        K.UNKNOWN_OPERATOR,
        3,
    ),
    "unknown class": (
        "class W:\n    def __init__(self):\n        self.a = operator.Solve(1)\n"
        "    async def __call__(self, problem): return 1, 0\n",
        K.UNKNOWN_OPERATOR,
        3,
    ),
    "never created": (
        "class W:\n    def __init__(self):\n        self.custom = operator.Custom(1)\n"
        "    async def __call__(self, problem):\n"
        "        return await self.review(problem, 'x'), 0\n",
        K.UNKNOWN_OPERATOR,
        5,
    ),
    "unknown argument": (
        call("r = await self.custom(text=problem, input='')", "return r, 0"),
        K.BAD_ARGUMENTS,
        3,
    ),
    "missing argument": (
        call("r = await self.review(problem=problem)", "return r, 0"),
        K.BAD_ARGUMENTS,
        3,
    ),
    "too many": (call("r = await self.custom(1, 2, 3)", "return r, 0"), K.BAD_ARGUMENTS, 3),
    "given twice": (
        call("r = await self.custom(problem, input=problem)", "return r, 0"),
        K.BAD_ARGUMENTS,
        3,
    ),
    "text for a list": (
        call("r = await self.sc_ensemble(solutions='x')", "return r, 0"),
        K.BAD_ARGUMENTS,
        3,
    ),
    "list for text": (
        call("r = await self.custom(input=[problem])", "return r, 0"),
        K.BAD_ARGUMENTS,
        3,
    ),
    "bad argument by alias": (
        call("op = self.custom", "r = await op(x=1, input='')", "return r, 0"),
        K.BAD_ARGUMENTS,
        4,
    ),
    "dropped": (call("self.custom(input=problem)", "return 1, 0"), K.NOT_AWAITED, 3),
    "subscripted": (call("return self.custom(input=problem)['response'], 0"), K.NOT_AWAITED, 3),
    "await binds later": (
        call("r = await self.custom(input=problem)['response']", "return r, 0"),
        K.NOT_AWAITED,
        3,
    ),
    "bound and read": (
        call("r = self.custom(input=problem)", "return r['response'], 0"),
        K.NOT_AWAITED,
        3,
    ),
    "passed on": (
        call("r = await self.custom(input=self.custom(input='x'))", "return r, 0"),
        K.NOT_AWAITED,
        3,
    ),
    "in an f-string": (call("return f'{self.custom(input=problem)}', 0"), K.NOT_AWAITED, 3),
    "returned": (call("return self.custom(input=problem), 0"), K.NOT_AWAITED, 3),
    "return alone": (call("return problem"), K.BAD_RETURN, 3),
    "return of a string": (call("return str(problem)"), K.BAD_RETURN, 3),
    "return of a key": (
        call("r = await self.custom(input=problem)", "return r['response']"),
        K.BAD_RETURN,
        4,
    ),
    "return of three": (call("return problem, 1, 2"), K.BAD_RETURN, 3),
    "bare return": (call("if problem:", "    return", "return 1, 2"), K.BAD_RETURN, 4),
    "no return": (call("r = await self.custom(input=problem)"), K.BAD_RETURN, 2),
    "undefined": (call("return answer, 0"), K.UNDEFINED_NAME, 3),
    "undefined in a lambda": (call("f = lambda: missing", "return f(), 0"), K.UNDEFINED_NAME, 3),
    "undefined in a comprehension": (
        call("x = [y for _ in problem]", "return x[0], 0"),
        K.UNDEFINED_NAME,
        3,
    ),
    "class scope is no scope": (
        "class Workflow:\n  limit = 3\n  async def __call__(self, problem):\n    return limit, 0\n",
        K.UNDEFINED_NAME,
        4,
    ),
    "module not imported": (call("return re.findall('a', problem), 0"), K.UNDEFINED_NAME, 3),
    "builtin that is missing": (call("return bytearray(3), 0"), K.UNDEFINED_NAME, 3),
    "wrong key": (
        call("r = await self.custom(input=problem)", "return r['anser'], 0"),
        K.UNDEFINED_NAME,
        4,
    ),
    "wrong key inline": (
        call("return (await self.custom(input=problem))['answer'], 0"),
        K.UNDEFINED_NAME,
        3,
    ),
    "unknown prompt": (
        call("r = await self.custom(problem, self.prompts['x'])", "return r, 0"),
        K.UNKNOWN_PROMPT,
        3,
    ),
    "unknown constant": (
        call("r = await self.custom(problem, prompt_custom.X)", "return r, 0"),
        K.UNKNOWN_PROMPT,
        3,
    ),
    "stdin": (call("return input(), 0"), K.FORBIDDEN_SYNTAX, 3),
    "file": (call("return open('/etc/passwd').read(), 0"), K.FORBIDDEN_SYNTAX, 3),
    "eval": (call("return eval(problem), 0"), K.FORBIDDEN_SYNTAX, 3),
    "dunder walk": (call("return ().__class__.__bases__[0], 0"), K.FORBIDDEN_SYNTAX, 3),
    "module that is missing": (
        "import os\n" + call("return os.getcwd(), 0"),
        K.FORBIDDEN_SYNTAX,
        4,
    ),
    "async generator": (
        "async def g():\n    yield 1\n" + call("return [x async for x in g()], 0"),
        K.FORBIDDEN_SYNTAX,
        2,
    ),
    "endless loop": (
        call("while True:", "    await self.custom(input=problem)", "return 1, 0"),
        K.UNBOUNDED,
        3,
    ),
    "forbidden operator": (
        call("r = await self.test(problem, 'x', 'f')", "return r['solution'], 0"),
        K.FORBIDDEN_OPERATOR,
        3,
    ),
}
