"""A server that speaks the OpenAI API and imitates gpt-4o-mini on problems it was told.

It is a real server in a child process; the real openai client talks to it over HTTP. A reply is a
function of the request alone (its `seed` included), never of order, time or faults of transport.

| module | holds |
|---|---|
| `host` | starts and stops the child |
| `settings` | what can be set |
| `server`, `__main__` | HTTP, the child's life |
| `faults` | what goes wrong on demand |
| `shapes`, `structured` | OpenAI's JSON |
| `world` | the response to a request |
| `wire` | which operator asks, and about which problem |
| `skill` | how able the imitated model is |
| `values`, `programs` | answers and code, right and wrong |
| `replies`, `code_replies`, `prose` | what it says |
"""

from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.llm.simulator.settings import SIMULATED_MODEL, SimulatorSettings

__all__ = ["SIMULATED_MODEL", "Simulator", "SimulatorSettings"]
