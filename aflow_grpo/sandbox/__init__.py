"""Runs untrusted Python in a locked-down process, and tests against it.

For users: `pool.Sandbox` and `judge.judge`. Behind them: `jail` (CPython, Linux) and
`monty_backend` (anywhere). Inside the jail, from the host inwards: `client` -> `zygote` -> `job`,
locked by `lockdown` (`landlock`, `seccomp`, `syscalls`); `values` is the border's language;
`judge` asks the candidate in one job and compares in another, `replay` where a test is a program.

It covers, in the jail (Linux 5.13 or newer, x86_64 and aarch64; any user; no namespaces needed):
no network, no file written, no file read but Python's own library and three packages, an empty
environment, no process, thread or program started, no signal to others, nothing left of one job
for the next; limits of address space, processor time (by the kernel's timer), wall-clock time and
output; fixed hash and random seeds; verdicts that the candidate can neither see nor write. What
the machine cannot enforce is noticed at start, by trying it, and the code then runs in Monty: no
files, network or processes because the interpreter has none, less of Python, and wall-clock time
for processor time, so that there load can change a verdict.

It does not cover: flaws of the kernel or of Monty, side channels, hostile tenants on one machine
(that takes a virtual machine); the memory of all jobs together (`workers` times `memory_mb` must
fit); that a file exists (`stat` answers); randomness that a program takes from the system or the
clock; a candidate that knows the right answers by heart.

The zygote imports this package, so nothing heavy is imported here.
"""
