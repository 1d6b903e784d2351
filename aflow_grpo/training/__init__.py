"""Lightning: the module, the datamodule, the callbacks, and MLflow.

| module | holds |
|---|---|
| `module`, `update` | the LightningModule; one GRPO update |
| `datamodule` | problem sets, endless proportional batches |
| `rollout_callback`, `open_run`, `event_loop`, `collect` | executing workflows for a step |
| `storing` | every rollout to the journal |
| `traces`, `trace_spans`, `trace_store` | sampled rollouts as MLflow traces |
| `outage`, `spending`, `preflight`, `forecast` | when nobody answers; what a run will cost |
| `stage`, `rescoring`, `lengths` | the reward's stage; other rewards; lengths against limits |
| `ranks`, `shares`, `following` | what ranks tell each other, share out, and have of the lab book |
| `launched`, `rank_watch` | which rank this is; how all of them end |
| `run_directory`, `checkpoint` | one process per directory; boundaries, atomic files |
| `interrupts` | Ctrl-C and SIGTERM |
| `metrics`, `tracking` | every metric name; the run in MLflow |
| `progress`, `report` | what a person sees |
| `settings` | what a user sets under `model:` |
"""
