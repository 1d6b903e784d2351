"""What the simulator knows, and the response body it gives to a request body; no HTTP."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aflow_grpo.llm.simulator.code_replies import reply_with_code
from aflow_grpo.llm.simulator.faults import Fault
from aflow_grpo.llm.simulator.replies import Call, reply, unknown_reply
from aflow_grpo.llm.simulator.settings import SimulatorSettings
from aflow_grpo.llm.simulator.shapes import (
    CHARS_PER_TOKEN,
    ChatRequest,
    Refused,
    completion_body,
)
from aflow_grpo.llm.simulator.skill import Skill
from aflow_grpo.llm.simulator.wire import ProblemIndex, operator_of
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["World"]

_REFUSAL = "I'm sorry, but I can't help with that request."
_MARKS = re.compile(r"</?\w+>\n?|^```\w*\n?", re.MULTILINE)
"""What a malformed reply lacks."""


class World:
    """Replies to requests about the problems it was given.

    Args:
        problems: What it knows the answers to.
        markers: Operator attribute -> the opening of its system message.
        settings: Skill, names, and whether structured outputs are understood.
    """

    def __init__(
        self, problems: Iterable[Problem], markers: Mapping[str, str], settings: SimulatorSettings
    ) -> None:
        self.settings = settings
        self._markers = markers
        self._index = ProblemIndex(problems)
        self._skill = Skill(
            settings.skill_seed, settings.noise, settings.visibility, settings.effects_seed
        )

    def completion(self, body: Any, fault: Fault | None = None) -> dict[str, Any]:
        """The response body for a decoded request body; a pure function of both arguments.

        Args:
            body: Of the request.
            fault: What is wrong with the reply's content.

        Raises:
            Refused: The request gets an error instead.
        """
        settings = self.settings
        request = ChatRequest.read(body, structured_outputs=settings.structured_outputs)
        if request.model not in settings.models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            raise Refused(404, "model_not_found", message, param="model")
        prompt_tokens = request.prompt_tokens
        if fault is Fault.REFUSAL:
            refusal = _REFUSAL if request.format else None
            return completion_body(request.model, _REFUSAL, "stop", prompt_tokens, refusal=refusal)
        text, finish = self.text(request.system, request.user, request.seed), "stop"
        if fault is Fault.MALFORMED:
            text = _MARKS.sub("", text)
        elif request.format:
            text = request.format.render(text)
        limit = request.max_tokens * CHARS_PER_TOKEN
        if fault is Fault.CUT:
            limit = min(limit, len(text) // 2)
        if len(text) > limit:
            text, finish = text[:limit], "length"
        return completion_body(request.model, text, finish, prompt_tokens)

    def text(self, system: str, user: str, seed: int) -> str:
        """The reply to one system and one user message."""
        operator = operator_of(system, self._markers)
        rng = random.Random(derive_seed("reply", seed, _content(operator, user)))
        problem = self._index.find(user)
        if problem is None:
            return unknown_reply(operator, user, rng)
        call = Call(operator, problem, user, rng, self._skill)
        return reply_with_code(call) if problem.domain == "code" else reply(call)


def _content(operator: str, user: str) -> str:
    """A message without its last words, which say in what form to reply: they decide nothing."""
    end = user.rfind("\n</")
    return user if operator == "custom" or end < 0 else user[:end]
