"""The policy as a whole: sampling and scoring agree, adapters, reference, saved weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
from aflow_grpo.policy.loading import causal_parts
from aflow_grpo.policy.prompting import EncodedPrompt
from aflow_grpo.policy.scoring import score
from aflow_grpo.records import Completion, Problem

LORA = LoraSettings(rank=4, alpha=8)
SAMPLING = SamplingSettings(temperature=0.9, max_new_tokens=16, max_prompt_tokens=64)
ONE, TWO = EncodedPrompt((5, 6, 7)), EncodedPrompt((8,))
PROMPTS = [ONE, TWO, ONE, EncodedPrompt(tuple(range(20, 40)))]
PROBLEM = Problem(id="p/1", dataset="sample", domain="math", question="What is 2+3?", answer="5")


def built(model_folder, **changes) -> Policy:
    policy = Policy(model_folder, sampling=SAMPLING, **changes)
    policy.setup()
    return policy.eval()


def nudge(policy: Policy) -> None:
    """Move every trainable weight, so that adapters do something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_sampled_logprobs_equal_scored_ones(model_folder, lora):
    policy = built(model_folder, lora=lora)
    nudge(policy)
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    scored = policy.score(completions, with_entropy=True)
    assert scored.logprobs_BT.requires_grad
    for row, completion in enumerate(completions):
        count = len(completion.token_ids)
        assert scored.mask_BT[row].tolist() == [t < count for t in range(scored.mask_BT.shape[1])]
        assert_close(
            scored.logprobs_BT[row, :count].detach(),
            torch.tensor(completion.logprobs),
            rtol=0,
            atol=1e-4,
        )
    assert (scored.entropy_BT[scored.mask_BT] > 0).all()
    assert scored.entropy_BT[~scored.mask_BT].abs().sum() == 0


def test_score_does_not_depend_on_the_micro_batch(model_folder):
    policy = built(model_folder)
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    together = policy.score(completions).logprobs_BT
    for row, completion in enumerate(completions):
        alone = policy.score([completion]).logprobs_BT[0]
        assert_close(together[row, : len(alone)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_sharing_prompts_changes_neither_values_nor_gradients(model_folder, lora):
    policy = built(model_folder, lora=lora)
    nudge(policy)
    prompts = PROMPTS[1:] * 3
    completions = policy.sample(prompts, range(9))
    completions[4] = replace(completions[4], token_ids=(9,))
    found = []
    for share in (False, True):
        policy.zero_grad()
        parts = causal_parts(policy.model, policy.tokenizer)
        scored = score(parts, completions, temperature=0.9, with_entropy=True, share_prompts=share)
        (scored.logprobs_BT.square().sum() + scored.entropy_BT.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])
        found.append((scored.logprobs_BT.detach(), scored.entropy_BT.detach(), gradient))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [False, True])
def test_completions_of_one_token(model_folder, share):
    policy = built(model_folder)
    one = Completion("", prompt_ids=(5, 6), token_ids=(7,), logprobs=(), finished=False)
    expected = policy.model(torch.tensor([[5, 6]])).logits[0, -1].log_softmax(-1)[7]
    parts = causal_parts(policy.model, policy.tokenizer)
    found = score(parts, [one, one], temperature=1.0, share_prompts=share).logprobs_BT
    assert_close(found, expected.expand(2, 1))


def test_score_without_entropy_and_without_completions(model_folder):
    policy = built(model_folder)
    assert policy.score(policy.sample([TWO], [0])).entropy_BT is None
    with pytest.raises(ValueError, match="score needs completions"):
        policy.score([])


def test_scoring_a_given_completion_by_hand(model_folder):
    policy = built(model_folder)
    completion = Completion("", prompt_ids=(5, 6), token_ids=(7, 8), logprobs=(), finished=False)
    logits = policy.model(torch.tensor([[5, 6, 7, 8]])).logits[0] / 0.9
    expected = logits.log_softmax(-1)[[1, 2], [7, 8]]
    assert_close(policy.score([completion]).logprobs_BT[0], expected)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_gradients_reach_exactly_the_trainable_weights(model_folder, lora):
    policy = built(model_folder, lora=lora)
    nudge(policy)
    scored = policy.score(policy.sample(PROMPTS, [1, 2, 3, 4]), with_entropy=True)
    (scored.logprobs_BT.sum() + scored.entropy_BT.sum()).backward()
    for name, parameter in policy.named_parameters():
        assert parameter.requires_grad == ("lora_" in name or lora is None)
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_adapters_sit_on_every_linear_layer_but_the_head(model_folder):
    policy = built(model_folder, lora=LORA)
    names = set(policy.trainable_state_dict())
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names}
    assert layers == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert policy.parameter_counts[0] == sum(
        p.numel() for p in policy.trainable_state_dict().values()
    )
    few = built(model_folder, lora=LoraSettings(rank=2, alpha=2, target_modules=["q_proj"]))
    assert all("q_proj" in name for name in few.trainable_state_dict())


def test_sampling_leaves_weights_bit_for_bit_and_adapters_active(model_folder):
    policy = built(model_folder, lora=LORA)
    nudge(policy)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    after = policy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapted = policy.score(completions).logprobs_BT
    assert (adapted - policy.reference_logprobs(completions)).abs().max() > 1e-3


@pytest.mark.parametrize("changes", [{"lora": LORA}, {"kl_reference": True}], ids=["lora", "full"])
def test_reference_is_the_initial_policy(model_folder, changes):
    policy = built(model_folder, **changes)
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    first = policy.score(completions).logprobs_BT.detach()
    reference = policy.reference_logprobs(completions)
    assert not reference.requires_grad
    assert_close(reference, first, rtol=0, atol=1e-6)
    nudge(policy)
    moved = policy.score(completions).logprobs_BT.detach()
    assert (moved - first).abs().max() > 1e-3
    assert_close(policy.reference_logprobs(completions), reference, rtol=0, atol=0)
    policy.train()
    assert policy.reference is None or not policy.reference.training
    assert all("reference" not in name for name in policy.trainable_state_dict())


def test_reference_of_a_fully_trained_policy_must_be_asked_for(model_folder):
    policy = built(model_folder)
    with pytest.raises(ConfigError, match=r"Set model\.policy\.kl_reference: true"):
        policy.reference_logprobs(policy.sample([TWO], [0]))


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_trainable_weights_round_trip(model_folder, lora):
    one, two = built(model_folder, lora=lora), built(model_folder, lora=lora)
    nudge(one)
    assert one.sample(PROMPTS, [1, 2, 3, 4]) != two.sample(PROMPTS, [1, 2, 3, 4])
    two.load_trainable_state_dict({n: t.clone() for n, t in one.trainable_state_dict().items()})
    assert one.sample(PROMPTS, [1, 2, 3, 4]) == two.sample(PROMPTS, [1, 2, 3, 4])


def test_foreign_weights_are_refused_by_name(model_folder):
    full, adapted = built(model_folder), built(model_folder, lora=LORA)
    with pytest.raises(ConfigError, match=r"28 missing .*lora_A.*embed_tokens"):
        adapted.load_trainable_state_dict(full.trainable_state_dict())
    wider = built(model_folder, lora=LoraSettings(rank=8, alpha=8))
    with pytest.raises(ConfigError, match="28 of another shape"):
        adapted.load_trainable_state_dict(wider.trainable_state_dict())


def test_adapter_seed_decides_the_adapters_and_touches_no_global_generator(model_folder):
    state = torch.random.get_rng_state()
    weights = [
        torch.cat([t.flatten() for t in built(model_folder, lora=LORA, seed=s)
                   .trainable_state_dict().values()])
        for s in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_fingerprint_tells_policies_apart(model_folder):
    prints = [
        built(model_folder, lora=lora).fingerprint()
        for lora in (None, LORA, LORA, LoraSettings(rank=8, alpha=8))
    ]
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3
    policy = built(model_folder)
    nudge(policy)
    assert policy.fingerprint() == prints[0], "training must not change what a checkpoint fits to"


def test_text_is_decoded_without_the_end_token(model_folder):
    policy = built(model_folder)
    policy.model.generation_config.eos_token_id = list(range(0, 258, 4))
    completions = policy.sample([TWO] * 20, range(20))
    ended = [c for c in completions if c.finished]
    assert ended
    for c in ended:
        assert c.text == policy.tokenizer.decode(list(c.token_ids[:-1]))
        assert c.prompt_ids == TWO.ids


@pytest.mark.parametrize("lora", [None, replace(LORA, dropout=0.2)], ids=["full", "lora"])
def test_gradient_checkpointing_changes_nothing_but_memory(model_folder, lora):
    gradients = []
    for checkpointing in (False, True):
        policy = built(model_folder, lora=lora, gradient_checkpointing=checkpointing)
        nudge(policy)
        completions = policy.sample(PROMPTS, [1, 2, 3, 4])
        policy.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            parts = causal_parts(policy.model, policy.tokenizer)
            scored = score(parts, completions, temperature=0.9, share_prompts=False)
            scored.logprobs_BT.sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])
        )
    assert_close(gradients[0], gradients[1])


def test_adapters_have_the_scale_and_dropout_of_the_settings(model_folder):
    policy = built(model_folder, lora=LoraSettings(rank=4, alpha=6, dropout=0.5))
    nudge(policy)
    layer = policy.model.base_model.model.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert low.shape == (4, 32)
    expected = layer.base_layer(x) + 6 / 4 * x @ low.T @ high.T
    assert_close(layer(x), expected)
    policy.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first, second = layer(x), layer(x)
        torch.manual_seed(1)
        again = layer(x)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_bfloat16_base_keeps_float32_adapters(model_folder):
    policy = built(model_folder, lora=LORA, dtype="bfloat16")
    for name, parameter in policy.named_parameters():
        assert parameter.dtype is (torch.float32 if "lora_" in name else torch.bfloat16)
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    scored = policy.score(completions)
    sampled = torch.tensor(completions[0].logprobs)
    assert_close(scored.logprobs_BT[0, : len(sampled)].detach(), sampled, rtol=0, atol=0.2)
    scored.logprobs_BT.sum().backward()


def test_nf4_base_with_adapters_samples_and_trains_on_a_cpu(model_folder):
    policy = built(model_folder, lora=LORA, quantization="nf4", dtype="bfloat16")
    others = {p.dtype for n, p in policy.named_parameters() if "norm" in n or "embed" in n}
    assert others == {torch.bfloat16}, "raised to float32 they would double the memory"
    policy = built(model_folder, lora=LORA, quantization="nf4")
    kinds = {type(module).__name__ for module in policy.modules()}
    assert "Linear4bit" in kinds
    completions = policy.sample(PROMPTS, [1, 2, 3, 4])
    scored = policy.score(completions)
    sampled = torch.tensor(completions[0].logprobs)
    assert_close(scored.logprobs_BT[0, : len(sampled)].detach(), sampled, rtol=0, atol=1e-3)
    assert_close(policy.reference_logprobs(completions), scored.logprobs_BT.detach())
    scored.logprobs_BT.sum().backward()
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)
    assert "nf4" in policy.describe()


def test_nothing_is_loaded_before_setup(model_folder):
    policy = Policy(model_folder, sampling=SAMPLING)
    assert list(policy.parameters()) == []
    for use in (lambda: policy.encode(PROBLEM.visible), lambda: policy.sample([ONE], [0]),
                policy.fingerprint, policy.describe):  # fmt: skip
        with pytest.raises(RuntimeError, match="setup"):
            use()
    policy.setup()
    model = policy.model
    policy.setup()
    assert policy.model is model


def test_describe_names_adapters_and_the_share_that_is_trained(model_folder):
    # Embedding 258 x 32; per layer q 32 x 32 + 32, k and v 16 x 32 + 16, o 32 x 32,
    # gate, up, down 32 x 48, two norms of 32; a norm at the end.
    layer = 1056 + 2 * 528 + 1024 + 3 * 1536 + 64
    base = 258 * 32 + 2 * layer + 32
    # Rank 4 times inputs and outputs of q, k, v, o, gate, up, down.
    adapters = 2 * 4 * (64 + 48 + 48 + 64 + 80 + 80 + 80)
    assert built(model_folder).parameter_counts == (base, base)
    assert (
        "(qwen2, float32): 100.00 % of 0.02 M parameters trained" in built(model_folder).describe()
    )
    for changes, kind in (({}, "float32"), ({"quantization": "nf4"}, "float32, nf4")):
        policy = built(model_folder, lora=LORA, **changes)
        assert policy.parameter_counts == (adapters, base + adapters)
        assert policy.describe().endswith(
            f"(qwen2, {kind}), LoRA rank 4, alpha 8, on all-linear: "
            f"{100 * adapters / (base + adapters):.2f} % of 0.03 M parameters trained"
        )


def test_threads_are_set_once_built(model_folder):
    before = torch.get_num_threads()
    try:
        built(model_folder, threads=2)
        assert torch.get_num_threads() == 2
        built(model_folder, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization": "nf4"}, "Set lora"),
        ({"threads": 0}, "threads=0: expected at least 1"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(ConfigError, match=message):
        Policy(**changes)


def test_what_is_told_of_while_writing_is_what_is_returned(model_folder):
    policy = built(model_folder)
    told = []
    written = policy.write(
        [PROBLEM.visible], range(6), on_written=lambda b, completion: told.append((b, completion))
    )
    assert sorted(told, key=lambda pair: pair[0]) == list(enumerate(written))


def test_where_sampled_and_scored_logprobs_may_differ(model_folder):
    policy = built(model_folder, lora=LORA)
    assert not policy.sampler_differs
    with torch.autocast("cpu", torch.bfloat16):
        assert policy.sampler_differs
    assert built(model_folder, lora=LORA, dtype="bfloat16").sampler_differs
    assert built(model_folder, lora=LORA, quantization="nf4").sampler_differs


def test_as_many_seeds_as_prompts(model_folder):
    with pytest.raises(ValueError, match="2 prompts need as many seeds, got 1"):
        built(model_folder).sample([ONE, TWO], [0])
