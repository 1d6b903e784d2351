"""The executor: tiers of OpenAI-compatible endpoints, usage, prices, journal and simulator.

| module | holds |
|---|---|
| `tiers` | one endpoint's settings, and where its key comes from |
| `prices` | the dated price table |
| `endpoint`, `breaker` | one tier: HTTP, retries, circuit breaker |
| `check` | do the endpoints answer? asked before a run |
| `client`, `session` | the chain of tiers, and what the operators call |
| `journal`, `rollout_store` | the durable store of every answered call and every rollout |
| `simulator` | a server that imitates gpt-4o-mini on known problems |

A tier is the executor's, or the one that writes workflows in place of a policy in this process.
Only this room imports openai and tenacity, and only `endpoint` and `check` do so when imported.
"""
