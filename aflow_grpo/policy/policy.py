"""The policy as one module: builds itself late, encodes problems, samples, scores.

Weights are loaded in `setup`, not in the constructor, so that reading a config, `--help` and a
failing check elsewhere cost nothing. Not here: rewards, the loss, the optimiser.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.backends import InProcess, SamplingBackend
from aflow_grpo.policy.base import BasePolicy, OnWritten
from aflow_grpo.policy.loading import (
    TINY,
    CausalParts,
    add_lora,
    causal_parts,
    enable_checkpointing,
    fingerprint,
    load,
    parameter_counts,
)
from aflow_grpo.policy.prompting import (
    EncodedPrompt,
    PromptForm,
    encode_problem,
    excess_lengths,
)
from aflow_grpo.policy.sampling import Drawn, Sampler
from aflow_grpo.policy.scoring import Scored, score
from aflow_grpo.policy.served import ServedBackend, ServedSampling
from aflow_grpo.policy.settings import LoraSettings, SamplingSettings
from aflow_grpo.records import Completion, VisibleProblem

__all__ = ["Policy"]

_DEFAULT_SAMPLING = SamplingSettings()


class Policy(BasePolicy):
    """A causal language model in this process that writes workflows.

    Args:
        model: ``tiny`` for the shipped policy of about 1 M parameters, a local folder, or a Hugging
            Face id such as ``Qwen/Qwen2.5-7B-Instruct``.
        lora: Adapters on frozen weights; null trains every weight.
        quantization: ``nf4`` keeps the frozen weights in 4 bits; needs `lora`.
        dtype: Of the base weights; adapters are always float32.
        prompt_form: ``full`` is a chat with all rules, for instruct models; ``compact`` is domain
            and problem only, for the tiny policy.
        sampling: Temperature and length limits.
        kl_reference: Keep a frozen copy of the initial weights for the KL term. Needed only when
            `lora` is null: with adapters the reference is the model without them, for free.
        gradient_checkpointing: Compute activations again in the backward pass: less memory for
            about a third more time.
        seed: Of the adapters' initial weights.
        threads: CPU threads of torch in this process; null takes one for ``tiny``, whose products
            are too small to share, and otherwise leaves them as they are.
        backend: A vLLM server that draws the workflows; null draws them in this process. Needs
            `lora`, since the server gets the adapters after every update.
    """

    def __init__(
        self,
        model: str = "tiny",
        *,
        lora: LoraSettings | None = None,
        quantization: Literal["none", "nf4"] = "none",
        dtype: Literal["float32", "bfloat16"] = "float32",
        prompt_form: PromptForm = "compact",
        sampling: SamplingSettings = _DEFAULT_SAMPLING,
        kl_reference: bool = False,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        threads: int | None = None,
        backend: ServedSampling | None = None,
    ) -> None:
        super().__init__()
        if backend is not None and lora is None:
            raise ConfigError(
                "model.policy.backend samples with a server, which gets the trained adapters after "
                "every update, and model.policy.lora=null trains all weights instead. Set lora "
                "(rank: 64), or backend: null to sample in this process."
            )
        if quantization != "none" and lora is None:
            raise ConfigError(
                f"model.policy.quantization={quantization} freezes the weights, and "
                "model.policy.lora=null trains them. Set lora (rank: 64) or quantization: none."
            )
        if threads is not None and threads < 1:
            raise ConfigError(f"model.policy.threads={threads}: expected at least 1, or null.")
        self.source = model
        self.lora = lora
        self.quantization = quantization
        self.dtype = dtype
        self.prompt_form: PromptForm = prompt_form
        self.sampling = sampling
        self.kl_reference = kl_reference
        self.gradient_checkpointing = gradient_checkpointing
        self.seed = seed
        self.threads = threads
        self.backend: SamplingBackend = InProcess()
        if backend is not None:
            self.backend = ServedBackend(backend, model, sampling)
        self.model: nn.Module | None = None
        self.reference: nn.Module | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._fingerprint = ""

    # Building

    def setup(self) -> None:
        """Load weights and tokenizer, add adapters; does nothing the second time.

        Raises:
            ConfigError: The model cannot be loaded, or the settings do not fit it.
        """
        if self.model is not None:
            return
        threads = 1 if self.threads is None and self.source == TINY else self.threads
        if threads is not None:
            torch.set_num_threads(threads)
        base, tokenizer = load(self.source, dtype=self.dtype, quantization=self.quantization)
        self._check_length(base.config)
        self._fingerprint = fingerprint(base, tokenizer, self.lora)
        if self.gradient_checkpointing:
            enable_checkpointing(base)
        if self.kl_reference and self.lora is None:
            self.reference = copy.deepcopy(base).requires_grad_(False)
        self._tokenizer = tokenizer
        self.model = base
        if self.lora is not None:
            self.model = add_lora(base, self.lora, seed=self.seed)
        self.train(self.training)

    def _check_length(self, config: Any) -> None:
        longest = getattr(config, "max_position_embeddings", None)
        wanted = self.sampling.max_prompt_tokens + self.sampling.max_new_tokens
        if longest is not None and wanted > longest:
            raise ConfigError(
                f"model.policy.sampling: max_prompt_tokens={self.sampling.max_prompt_tokens} and "
                f"max_new_tokens={self.sampling.max_new_tokens} make {wanted} tokens, but "
                f"{self.source} takes at most {longest}. Lower one of them."
            )

    def keep_reference(self) -> None:
        """Adapters can be switched off to get the initial policy; other training needs a copy."""
        if self.lora is None:
            self.kl_reference = True

    def require_weights(self) -> None:
        """They are here."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; after `setup`."""
        if self._tokenizer is None:
            raise RuntimeError("Policy.setup() has not been called yet")
        return self._tokenizer

    @property
    def end_id(self) -> int:
        """The token with which a text that is given to the policy ends; after `setup`."""
        end_ids, own = self._parts().end_ids, self.tokenizer.eos_token_id
        return own if own in end_ids else min(end_ids)

    def train(self, mode: bool = True) -> Self:
        """As usual, but the reference stays in eval mode."""
        super().train(mode)
        if self.reference is not None:
            self.reference.eval()
        return self

    def _parts(self, model: nn.Module | None = None) -> CausalParts:
        return causal_parts(model or self._built(), self.tokenizer)

    def _built(self) -> nn.Module:
        if self.model is None:
            raise RuntimeError("Policy.setup() has not been called yet")
        return self.model

    # What it is

    @property
    def parameter_counts(self) -> tuple[int, int]:
        """How many values are trained, and how many there are (a KL reference's copy apart)."""
        return parameter_counts(self._built())

    def describe(self) -> str:
        """One line for a person, the share that is trained at its end.

        E.g. ``tiny (qwen2, float32), LoRA rank 64, alpha 64, on all-linear: 2.1 % of 43.3 M
        parameters trained``.
        """
        trained, total = self.parameter_counts
        quantized = ", nf4" if self.quantization == "nf4" else ""
        kind = f"{self._parts().config.model_type}, {self.dtype}{quantized}"
        adapters = "" if self.lora is None else f", {self.lora}"
        share = f"{trained / total:.2%}".replace("%", " %")
        return (
            f"{self.source} ({kind}){adapters}: {share} of {total / 1e6:.2f} M parameters trained"
        )

    def fingerprint(self) -> str:
        """Base model, tokenizer and adapters in short; equal where a checkpoint fits."""
        self._built()
        return self._fingerprint

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Trainable tensors by their name in this module, detached, not copied."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `trainable_state_dict` gave.

        Raises:
            ConfigError: Names or shapes are not this policy's.
        """
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
        if missing or foreign or shapes:
            raise ConfigError(
                f"The weights do not fit model.policy ({self.describe()}): {len(missing)} missing "
                f"{missing[:2]}, {len(foreign)} unknown {foreign[:2]}, {len(shapes)} of another "
                f"shape {sorted(shapes)[:2]}. Use the settings that they were trained with."
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    # What it does

    def encode(self, problem: VisibleProblem) -> EncodedPrompt:
        """The prompt, at most `sampling.max_prompt_tokens` long: a longer context is shortened.

        Raises:
            ConfigError: It does not fit without any context; `too_long` finds such problems.
        """
        return encode_problem(
            problem,
            self.tokenizer,
            self.prompt_form,
            self.sampling.max_prompt_tokens,
            self.operators,
        )

    def too_long(self, problems: Sequence[VisibleProblem]) -> dict[str, int]:
        """The problems that cannot be encoded: id -> prompt tokens without any context."""
        limit = self.sampling.max_prompt_tokens
        return excess_lengths(problems, self.tokenizer, self.prompt_form, limit, self.operators)

    @property
    def sampler_differs(self) -> bool:
        """True where a server draws, and where products are rounded to bfloat16.

        The latter: with such weights, 4-bit ones, or mixed precision.

        Drawing runs one token of many rows at a time over a cache, scoring runs whole rows. In
        float32 the two agree to 1e-5; in bfloat16 a token's log-probability may move by a tenth.
        """
        mixed = torch.is_autocast_enabled(self._parts().head.weight.device.type)
        rounded = mixed or self.dtype != "float32" or self.quantization != "none"
        return rounded or self.backend.differs

    def write(
        self,
        problems_P: Sequence[VisibleProblem],
        seeds_B: Sequence[int],
        *,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        """Groups of workflows, all decoded together; see `BasePolicy.write` and `sample`."""
        group_size = len(seeds_B) // max(1, len(problems_P))
        prompts_B = [prompt for p in problems_P for prompt in [self.encode(p)] * group_size]
        return self.sample(prompts_B, seeds_B, greedy=greedy, on_written=on_written)

    def sample(
        self,
        prompts: Sequence[EncodedPrompt],
        seeds: Sequence[int],
        *,
        temperature: float | None = None,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        """One completion per (prompt, seed), in their order, all decoded together.

        Call in eval mode. A completion depends on its own prompt and seed only (up to rounding).

        Args:
            prompts: As `encode` gives them; equal ones are prefilled once.
            seeds: Non-negative, one per prompt; unused when greedy.
            temperature: In place of `sampling.temperature`.
            greedy: Always the most probable token.
            on_written: As in `write`.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, got {len(seeds)}")
        sampler = Sampler(
            max_new_tokens=self.sampling.max_new_tokens,
            temperature=self.sampling.temperature if temperature is None else temperature,
            top_p=self.sampling.top_p,
            greedy=greedy,
        )
        written: dict[int, Completion] = {}

        def keep(b: int, row: Drawn) -> None:
            written[b] = self._completion(prompts[b], row)
            if on_written is not None:
                on_written(b, written[b])

        ids = [prompt.ids for prompt in prompts]
        self.backend.draw(self._built(), self._parts(), ids, seeds, sampler, keep)
        return [written[b] for b in range(len(prompts))]

    def _completion(self, prompt: EncodedPrompt, row: Drawn) -> Completion:
        text_ids = row.token_ids[:-1] if row.finished else row.token_ids
        text = self.tokenizer.decode(text_ids, clean_up_tokenization_spaces=False)
        return Completion(
            text=str(text),
            prompt_ids=prompt.ids,
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            finished=row.finished,
            context_cut=prompt.context_cut,
        )

    def score(self, completions: Sequence[Completion], *, with_entropy: bool = False) -> Scored:
        """Log-probabilities under the current weights, with gradient.

        At `sampling.temperature`; the caller decides how many fit at once.
        """
        return score(
            self._parts(),
            completions,
            temperature=self.sampling.temperature,
            with_entropy=with_entropy,
        )

    @torch.no_grad()
    def reference_logprobs(self, completions: Sequence[Completion]) -> Tensor:
        """Log-probabilities under the initial policy, (B, T), without gradient.

        Raises:
            ConfigError: Every weight is trained and no copy of the first ones was kept.
        """
        temperature = self.sampling.temperature
        if self.lora is not None:
            model: Any = self._built()
            with model.disable_adapter():
                return score(self._parts(), completions, temperature=temperature).logprobs_BT
        if self.reference is None:
            raise ConfigError(
                "model.grpo.loss.kl_coef > 0 needs the initial policy, and model.policy.lora=null "
                "overwrites it. Set model.policy.kl_reference: true, or use lora."
            )
        parts = self._parts(self.reference)
        return score(parts, completions, temperature=temperature).logprobs_BT
