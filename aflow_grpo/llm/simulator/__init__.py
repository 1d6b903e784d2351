"""A server that speaks the OpenAI API and imitates gpt-4o-mini on problems it was told.

It is a real server in a child process; the real openai client talks to it over HTTP. A reply is a
function of the request alone (its `seed` included), never of order or time.

| module | holds |
|---|---|
| `host` | starts and stops the child |
| `settings` | what can be set |
| `server`, `__main__` | HTTP, injected failures, the child's life |
| `wire` | which operator asks, and about which problem |
| `skill` | how able the imitated model is |
| `values`, `programs` | answers and code, right and wrong |
| `replies`, `code_replies`, `prose` | what it says |
"""

from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.llm.simulator.settings import SIMULATED_MODEL, SimulatorSettings

__all__ = ["SIMULATED_MODEL", "Simulator", "SimulatorSettings"]
