"""What the command line and a notebook share: everything a person does with a policy or a run.

Each module is one thing a person wants, as functions that take and return plain records;
`commands/` only parses options and prints, and `aflow_grpo` names the public ones.
"""
