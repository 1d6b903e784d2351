"""Lightning: the module, the datamodule, the callbacks, and MLflow.

| module | holds |
|---|---|
| `module`, `judging`, `update` | the LightningModule; its evaluations; one GRPO update |
| `guard`, `demonstrations` | when training has gone wrong; verified workflows that join an update |
| `datamodule` | problem sets, endless proportional batches |
| `rollout_callback`, `open_run`, `event_loop` | what executes workflows, opened and closed |
| `collect`, `running`, `pipeline` | writing and executing at once; which batch is written when |
| `written`, `resampling` | workflows in a checkpoint; other groups for those without a signal |
| `storing` | every rollout to the journal |
| `traces`, `trace_spans`, `trace_store` | sampled rollouts as MLflow traces |
| `outage`, `spending`, `preflight`, `forecast` | when nobody answers; what a run will cost |
| `stage`, `rescoring`, `lengths` | the reward's stage; other rewards; lengths against limits |
| `ranks`, `shares`, `following` | what ranks tell each other, share out, and have of the lab book |
| `launched`, `rank_watch` | which rank this is; how all of them end |
| `run_directory`, `checkpoint` | one process per directory; boundaries, atomic files |
| `interrupts` | Ctrl-C and SIGTERM |
| `metrics`, `tracking`, `run_facts` | every metric name; which MLflow run, its name and tags |
| `run_logger`, `outbox`, `sending`, `repeated` | the run in MLflow: on disk first, no step twice |
| `tracking_address`, `plain_settings` | where it is tracked; settings without secrets |
| `lab_book`, `sample_tables`, `reward_plots`, `system_metrics` | what it holds besides numbers |
| `looking` | how to look at what a logger has got |
| `progress`, `report` | what a person sees |
| `settings` | what a user sets under `model:` |
"""
