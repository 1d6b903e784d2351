"""The fallback back-end: pydantic-monty, a Python-subset interpreter in its own process.

For machines whose kernel cannot enforce the jail (macOS, old Linux). It runs less of Python: no
inheritance, no `yield`, few modules; such code ends as `error`. Values that Monty cannot hand over
(functions, ranges) come as `unsupported type`; a generator comes as a list. Monty is imported on
`start`, so that who has the jail does not pay for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aflow_grpo.errors import SandboxUnavailable
from aflow_grpo.sandbox import values
from aflow_grpo.sandbox.results import Job, JobStatus, SandboxLimits, SandboxResult, Value, not_run

if TYPE_CHECKING:
    import pydantic_monty

__all__ = ["MontyBackend"]

_RECURSION_LIMIT = 800
_GRACE_S = 2.0
_LAST_EVENTS_S = 0.2
_RESULT = "__sandbox_value"


class _Fault(Exception):
    """Monty stopped the code; `fatal` when the session cannot be used any further."""

    def __init__(self, status: JobStatus, message: str, *, fatal: bool) -> None:
        super().__init__(message)
        self.status: JobStatus = status
        self.message = message
        self.fatal = fatal


class _Output:
    """Collects what a job prints; beyond the limit every further print raises in the job."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.text = ""
        self.full = False

    def __call__(self, stream: str, text: str) -> None:
        if stream == "stdout" and not self.full:
            self.full = len(self.text) + len(text) > self._limit
            self.text = (self.text + text)[: self._limit]
        if self.full:
            raise OverflowError(f"printed more than {self._limit} characters")


class MontyBackend:
    """Runs jobs in a pool of Monty processes.

    Args:
        limits: What one job may use; the memory limit counts Monty's heap.
        workers: Most processes.
    """

    def __init__(self, limits: SandboxLimits, *, workers: int) -> None:
        self.mode = "monty"
        self._limits = limits
        self._workers = workers
        self._pool: pydantic_monty.AsyncMonty | None = None

    async def start(self) -> None:
        """Start the pool.

        Raises:
            SandboxUnavailable: pydantic-monty is not installed or does not start.
        """
        try:
            import pydantic_monty

            pool = pydantic_monty.AsyncMonty(max_processes=self._workers)
            await pool.__aenter__()
        except (ImportError, OSError, RuntimeError) as error:
            raise SandboxUnavailable(f"Monty does not start: {error}") from error
        self._pool = pool

    async def aclose(self) -> None:
        """End the pool; may be called twice."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)
            # Monty's thread still delivers events for a moment; an interpreter that exits under it
            # aborts (about one in ten times without this pause).
            await asyncio.sleep(_LAST_EVENTS_S)

    async def run(self, job: Job) -> SandboxResult:
        """Run one job; whatever the code does is a result."""
        import pydantic_monty

        if self._pool is None:
            raise RuntimeError("the Monty back-end is not started")
        run = _Run(job, self._limits)
        started = time.monotonic()
        try:
            async with asyncio.timeout(job.timeout_s + _GRACE_S):
                async with self._pool.checkout(script_name="solution.py", limits=run.limits) as s:
                    await run.drive(s)
        except TimeoutError:
            run.stop("timeout", f"did not finish within {job.timeout_s:g} s")
        except pydantic_monty.MontyError as error:  # the process died while the session was closed
            run.stop("crash", str(error))
        return run.result(time.monotonic() - started)


class _Run:
    """One job in one session, and what is known of it so far."""

    def __init__(self, job: Job, limits: SandboxLimits) -> None:
        self._job = job
        self._output = _Output(limits.max_output_bytes)
        self._deadline = time.monotonic() + job.timeout_s
        self._status: JobStatus | None = None
        self._error = ""
        self._values: list[Value] = []
        self.limits: pydantic_monty.ResourceLimits = {
            "max_feed_duration_secs": job.timeout_s,
            "max_total_sleep_secs": job.timeout_s,
            "max_memory": limits.memory_mb << 20,
            "max_recursion_depth": _RECURSION_LIMIT,
        }

    async def drive(self, session: pydantic_monty.AsyncMontySession) -> None:
        """Run the source, then the expressions, until one of them ends the session."""
        try:
            # A name of its own, or else a script's main block would run.
            inputs = {"__name__": "solution", **self._job.inputs}
            await self._feed(session, "None", inputs)  # an empty source would not bind them
            await self._feed(session, self._job.source)
        except _Fault as fault:
            self._status, self._error = fault.status, fault.message
            return
        self._status = "ok"
        for expression in self._job.expressions:
            try:
                self._values.append(await self._evaluate(session, expression))
            except _Fault as fault:
                self._values.append(Value(False, error=fault.message))
                if fault.fatal:
                    return

    def stop(self, status: JobStatus, message: str) -> None:
        """Record that the job was ended from outside."""
        if self._status is None:
            self._status, self._error = status, message
        elif self._status == "ok" and len(self._values) < len(self._job.expressions):
            self._values.append(Value(False, error=message))

    def result(self, seconds: float) -> SandboxResult:
        """What is known now, with the rest marked as not evaluated."""
        if self._status is None or self._status != "ok":
            status = self._status or "crash"
            missing = not_run(self._job, status, "the source did not run through").values
            return SandboxResult(status, missing, self._output.text, self._error, seconds, seconds)
        lost = len(self._job.expressions) - len(self._values)
        rest = [Value(False, error="not evaluated: an earlier expression ended the job")] * lost
        found = (*self._values, *rest)
        return SandboxResult("ok", found, self._output.text, "", seconds, seconds)

    async def _evaluate(self, session: pydantic_monty.AsyncMontySession, expression: str) -> Value:
        await self._feed(session, f"{_RESULT} = ({expression}\n)")
        value = await self._feed(session, _RESULT)
        # What has no host counterpart arrives as its text; only the session knows better.
        if isinstance(value, str) and not await self._feed(session, f"isinstance({_RESULT}, str)"):
            kind = await self._feed(session, f"type({_RESULT}).__name__")
            return Value(False, error=f"unsupported type '{kind}'")
        try:
            return Value(True, values.decode(values.encode(value)))
        except ValueError as error:
            return Value(False, error=str(error))

    async def _feed(
        self,
        session: pydantic_monty.AsyncMontySession,
        code: str,
        inputs: dict[str, Any] | None = None,
    ) -> Any:
        import pydantic_monty

        if time.monotonic() > self._deadline:
            raise self._out_of_time()
        try:
            return await session.feed_run(code, inputs=inputs, print_callback=self._output)
        except pydantic_monty.MontyCrashedError as error:
            if error.timed_out:
                raise self._out_of_time() from None
            raise _Fault("crash", str(error), fatal=True) from None
        except pydantic_monty.MontyRuntimeError as error:
            raise self._fault_of(error) from None
        except pydantic_monty.MontyError as error:
            message = error.display() if hasattr(error, "display") else str(error)
            raise _Fault("error", message, fatal=False) from None

    def _fault_of(self, error: pydantic_monty.MontyRuntimeError) -> _Fault:
        if self._output.full:
            return _Fault("error", "printed too much", fatal=True)
        inner = error.exception()
        if isinstance(inner, TimeoutError) and "limit exceeded" in str(inner):
            return self._out_of_time()
        if isinstance(inner, MemoryError):
            return _Fault("memory", "MemoryError", fatal=True)
        return _Fault("error", error.display()[-4000:], fatal=False)

    def _out_of_time(self) -> _Fault:
        return _Fault("timeout", f"did not finish within {self._job.timeout_s:g} s", fatal=True)
