"""Runs untrusted Python in a locked-down process, and tests against it.

For users: `pool.Sandbox` and `judge.judge`. Behind them: `jail` (CPython, Linux) and
`monty_backend` (anywhere). Inside the jail, from the host inwards: `client` -> `zygote` -> `job`,
locked by `lockdown` (`landlock`, `seccomp`, `syscalls`); `values` is the border's language.
The zygote imports this package, so nothing heavy is imported here.
"""
