"""The executor: tiers of OpenAI-compatible endpoints, usage, prices, journal and simulator.

| module | holds |
|---|---|
| `settings`, `tiers`, `trace_settings` | what can be set; where a tier's key comes from |
| `prices`, `budget` | the dated price table; the run's hard limit |
| `endpoint`, `breaker`, `limits` | one tier: HTTP, retries, circuit breaker, rates |
| `chat`, `structured`, `failures` | bodies; replies as JSON; what went wrong |
| `check` | do the endpoints answer? asked before a run |
| `client`, `progress`, `session` | the chain of tiers; how far a call is; what the operators call |
| `ledger`, `journal`, `journal_schema`, `journal_files` | the durable store of every call |
| `rollout_store` | and of every rollout |
| `simulator` | a server that imitates gpt-4o-mini on known problems |

A tier is the executor's, or the one that writes workflows in place of a policy in this process.
Only this room imports openai and tenacity, and only `endpoint` and `check` do so when imported.
"""
