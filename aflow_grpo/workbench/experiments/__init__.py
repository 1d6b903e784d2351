"""Experiments: a question, arms, replicates, and the table that answers it.

`plan` reads `experiments/NAME/experiment.yaml`, `running` makes the runs in child processes as a
user would, `rows` takes the executed workflows from their journals, `arena` executes workflows that
no policy wrote, `tables` turns rows into figures with intervals. Not here: the statistics
(`evaluation`), the verb (`commands.experiment`).
"""
