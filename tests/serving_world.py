"""A small server on loopback that does what vLLM's does, with real models, sampling and adapters.

It keeps vLLM's rules (0.32): a name that is loaded is refused, an unknown one is not found, a rank
above the largest is an error of the server; it stops at the ids it is told and gives ids and
log-probabilities. It draws with the policy's own sampler, so that a test can compare to the last
token. Which adapter answered, what was loaded and what was refused is kept for the tests.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from peft import PeftModel
from torch import nn

from aflow_grpo.policy.loading import CausalParts, causal_parts, load
from aflow_grpo.policy.sampling import Sampler, draw
from aflow_grpo.policy.scoring import score
from aflow_grpo.records import Completion

__all__ = ["CUT", "GARBAGE", "HANG", "Serving", "serving"]

CUT, GARBAGE, HANG = "cut", "garbage", "hang"
"""Faults in place of an answer: the connection breaks in the body, HTML comes, nothing comes."""
Fault = int | str | dict[str, Any] | Callable[[dict[str, Any]], None] | None
"""An HTTP status, one of the above, a whole body, or what is done to the right one."""


@dataclass
class Serving:
    """One server: how it is started, what became of it."""

    source: str
    """The base model."""
    name: str = ""
    """What it calls it; empty: as `source`."""
    max_model_len: int = 1024
    enable_lora: bool = True
    runtime_loras: bool = True
    max_lora_rank: int = 64
    processed_logprobs: bool = True
    key: str = ""
    fault: Callable[[str, int], Fault] = lambda path, index: None
    """From the path and how often it was asked for before."""
    base_url: str = ""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and body of each, in the order of arrival."""
    headers: list[dict[str, str]] = field(default_factory=list)
    adapters: dict[str, tuple[str, CausalParts]] = field(default_factory=dict)
    """Loaded at this moment: name -> folder, model."""
    loaded: list[str] = field(default_factory=list)
    """Every name that was ever loaded, in order."""

    def __post_init__(self) -> None:
        self.name = self.name or self.source
        self._model, self._tokenizer = _loaded(self.source)
        self._base = causal_parts(self._model, self._tokenizer)
        self._counts: dict[str, int] = {}

    def drawn_by(self) -> list[str]:
        """Which model each completion was asked of."""
        return [body["model"] for path, body in self.requests if path == "/v1/completions"]

    # HTTP

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Plain ASGI."""
        assert scope["type"] == "http"
        path, raw = scope["path"], await _body(receive)
        body = json.loads(raw) if raw else {}
        index = self._counts.get(path, 0)
        self._counts[path] = index + 1
        self.requests.append((path, body))
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        fault = self.fault(path, index)
        if fault == HANG:
            await asyncio.Event().wait()
        elif fault == CUT:
            headers = [(b"content-length", b"1000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
            raise ConnectionAbortedError  # uvicorn closes the connection
        elif fault == GARBAGE:
            await _send(send, 200, "<html>bad gateway</html>")
        elif isinstance(fault, int):
            await _send(send, fault, _error(fault, "on purpose"))
        elif isinstance(fault, dict):
            await _send(send, 200, fault)
        else:
            status, reply = await self._reply(scope["method"], path, body)
            if fault is not None and status == 200:
                fault(reply)
            await _send(send, status, reply)

    async def _reply(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.key and self.headers[-1].get("authorization") != f"Bearer {self.key}":
            return 401, {"error": "Unauthorized"}
        match method, path:
            case "GET", "/v1/models":
                return 200, {"object": "list", "data": self._cards()}
            case "POST", "/v1/completions":
                return await asyncio.to_thread(self._complete, body)
            case "POST", "/v1/load_lora_adapter" if self.runtime_loras:
                return await asyncio.to_thread(self._load, body["lora_name"], body["lora_path"])
            case "POST", "/v1/unload_lora_adapter" if self.runtime_loras:
                return self._unload(body["lora_name"])
        return 404, {"detail": "Not Found"}

    # What it serves

    def _cards(self) -> list[dict[str, Any]]:
        base = {"id": self.name, "root": self.source, "parent": None}
        adapters = [
            {"id": name, "root": folder, "parent": self.name, "max_model_len": None}
            for name, (folder, _) in self.adapters.items()
        ]
        return [base | {"max_model_len": self.max_model_len}, *adapters]

    def _load(self, name: str, folder: str) -> tuple[int, Any]:
        if name in self.adapters:
            message = f"The lora adapter '{name}' has already been loaded. If you want to load the "
            return 400, _error(400, message + "adapter in place, set 'load_inplace' to True.")
        if not self.enable_lora:
            told = "LoRA is not enabled. Use --enable-lora to enable LoRA."
            return 500, _error(500, f"Call to add_lora method failed: {told}")
        path = Path(folder) / "adapter_config.json"
        if not path.is_file():
            told = f"Loading lora {name} failed: No adapter found for {folder}"
            return 404, _error(404, told)
        rank = json.loads(path.read_text())["r"]
        if rank > self.max_lora_rank:
            told = f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}."
            return 500, _error(500, f"Call to add_lora method failed: {told}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            model: nn.Module = PeftModel.from_pretrained(copy.deepcopy(self._model), folder)
        self.adapters[name] = folder, causal_parts(model.eval(), self._tokenizer)
        self.loaded.append(name)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, name: str) -> tuple[int, Any]:
        if name not in self.adapters:
            return 404, _error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = body["model"]
        if model == self.name:
            parts = self._base
        elif model in self.adapters:
            _, parts = self.adapters[model]
        else:
            return 404, _error(404, f"The model `{model}` does not exist.")
        # A real one would take them from the model's generation_config.json.
        for key, off in (("top_k", 0), ("repetition_penalty", 1.0), ("min_p", 0.0)):
            assert body[key] == off
        prompt = body["prompt"]
        length = min(body["max_tokens"], self.max_model_len - len(prompt))
        ends = frozenset(body["stop_token_ids"])
        assert body["ignore_eos"], "its own end tokens would end rows, too"
        parts = CausalParts(parts.inner, parts.head, parts.config, ends)
        temperature = body["temperature"]
        sampler = Sampler(length, temperature or 1.0, body["top_p"], greedy=not temperature)
        (row,) = draw(parts, [prompt], [body.get("seed", 0)], sampler)
        ids, logprobs = row.token_ids, row.logprobs
        if not self.processed_logprobs:
            completion = Completion("", tuple(prompt), tuple(ids), tuple(logprobs), row.finished)
            logprobs = score(parts, [completion], temperature=1.0).logprobs_BT[0].tolist()
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": "stop" if row.finished else "length",
            "logprobs": {
                "token_logprobs": logprobs,
                "top_logprobs": [self._top(parts, prompt, temperature or 1.0, body["logprobs"])],
            },
        }
        if body.get("return_token_ids"):
            choice |= {"token_ids": ids, "prompt_token_ids": prompt}
        return 200, {"object": "text_completion", "model": model, "choices": [choice]}

    def _top(
        self, parts: CausalParts, prompt: list[int], temperature: float, count: int
    ) -> dict[str, float]:
        """Log-probabilities of the first token's most probable candidates."""
        with torch.inference_mode():
            hidden = parts.inner(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            at = temperature if self.processed_logprobs else 1.0
            values, ids = (parts.head(hidden).float() / at).log_softmax(-1).topk(count)
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        return {f"token_id:{token}": value for token, value in pairs}


@contextmanager
def serving(server: Serving) -> Iterator[Serving]:
    """Serve from a thread of its own until the block ends."""
    config = uvicorn.Config(
        server.application,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        log_level=60,  # a connection cut on purpose is no news
        access_log=False,
        timeout_graceful_shutdown=0,
    )
    inner = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    server.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    thread = threading.Thread(target=inner.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        inner.should_exit = True
        thread.join()
        listener.close()


_loaded = functools.cache(load)


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "param": None, "code": status}}


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _send(send: Any, status: int, reply: Any) -> None:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
