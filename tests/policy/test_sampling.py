"""Sampling: the same distribution as the model's, whatever else is in the batch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import END_ID, byte_tokenizer, random_qwen2
from scipy.stats import chi2
from torch.utils._python_dispatch import TorchDispatchMode

from aflow_grpo.policy.cache import PreallocatedLayer, make_cache
from aflow_grpo.policy.choosing import inverse_cdf, logits_into
from aflow_grpo.policy.loading import causal_parts
from aflow_grpo.policy.sampling import Sampler, draw, uniforms


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PROMPTS = [[5, 6, 7], [8], [5, 6, 7], list(range(20, 40)), [8], [5, 6, 7]]
SEEDS = [11, 12, 13, 14, 15, 16]


def parts_of(model):
    return causal_parts(model, byte_tokenizer())


@pytest.fixture(scope="module")
def model():
    return random_qwen2()


@pytest.fixture(scope="module")
def parts(model):
    return parts_of(model)


@pytest.fixture(scope="module")
def wide():
    """A vocabulary of several tiles and blocks, the last ones partial; one token in 16 ends."""
    model = random_qwen2(3, vocab_size=1291)
    model.generation_config.eos_token_id = list(range(0, 1291, 16))
    return model


def forced_logits(model, prompt, token_ids):
    """What predicts each token when the whole sequence is given."""
    with torch.no_grad():
        return model(torch.tensor([prompt + token_ids])).logits[0, len(prompt) - 1 : -1]


def hf_greedy(model, prompt, count):
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=END_ID,
    )
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vocab_size": 1291},
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ],
    ids=["full attention", "several tiles", "sliding window"],
)
def test_greedy_equals_transformers_generate(changes):
    model = random_qwen2(1, **changes)
    rows = draw(parts_of(model), PROMPTS, SEEDS, Sampler(max_new_tokens=12, greedy=True))
    assert [row.token_ids for row in rows] == [hf_greedy(model, p, 12) for p in PROMPTS]


@pytest.mark.parametrize("temperature", [0.8, 1.0])
def test_logprobs_are_those_of_a_teacher_forced_pass(wide, temperature):
    """Also of rows that end at different times, beside prompts of other lengths."""
    prompts = PROMPTS * 6
    sampler = Sampler(max_new_tokens=30, temperature=temperature)
    rows = draw(parts_of(wide), prompts, range(len(prompts)), sampler)
    assert len({len(row.token_ids) for row in rows}) > 5
    for row, prompt in zip(rows, prompts, strict=True):
        logits = forced_logits(wide, prompt, row.token_ids)
        expected = (logits / temperature).log_softmax(-1)
        expected = expected.gather(1, torch.tensor([row.token_ids]).T).squeeze(1)
        assert row.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_greedy_logprobs_are_those_of_the_distribution(model, parts):
    (row,) = draw(parts, [[5]], [0], Sampler(max_new_tokens=6, greedy=True, temperature=0.5))
    best = (forced_logits(model, [5], row.token_ids) / 0.5).log_softmax(-1).max(1)
    assert row.token_ids == best.indices.tolist()
    assert row.logprobs == pytest.approx(best.values.tolist(), abs=1e-5)


def boundary_distance(model, prompt, row, seed, step):
    """How far the draw of this token is from the nearest token boundary, in probability."""
    probs = forced_logits(model, prompt, row.token_ids)[step].double().softmax(-1)
    number = uniforms([seed], step + 1)[0, step]
    return float((probs.cumsum(0) - number).abs().min())


def test_a_row_does_not_depend_on_its_neighbours(wide):
    """Equal ids, but for draws that rounding could decide: those within 1e-5 of a boundary."""
    prompts, seeds = PROMPTS * 8, list(range(50, 98))
    sampler, parts = Sampler(max_new_tokens=20), parts_of(wide)
    together = draw(parts, prompts, seeds, sampler)
    backwards = draw(parts, prompts[::-1], seeds[::-1], sampler)[::-1]
    alone = [draw(parts, [p], [s], sampler)[0] for p, s in zip(prompts, seeds, strict=True)]
    equal = 0
    for b, one in enumerate(together):
        for other in (backwards[b], alone[b]):
            same = one.token_ids == other.token_ids
            equal += same
            if same:
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
                assert one.finished == other.finished
            else:
                pairs = zip(one.token_ids, other.token_ids, strict=False)
                step = next(i for i, (x, y) in enumerate(pairs) if x != y)
                assert boundary_distance(wide, prompts[b], one, seeds[b], step) < 1e-5
    # Of about 1,000 draws among 1,291 tokens a few per cent lie that close, and few of them differ.
    assert equal >= 0.95 * 2 * len(together)


def test_equal_seeds_repeat_and_other_seeds_differ(parts):
    rows = draw(parts, [[5, 6]] * 3, [1, 1, 2], Sampler(max_new_tokens=12))
    assert rows[0].token_ids == rows[1].token_ids != rows[2].token_ids
    # The place in the batch may change the last bit, by the processor's vector width.
    assert rows[0].logprobs == pytest.approx(rows[1].logprobs, abs=1e-5)


def test_global_generator_is_neither_read_nor_moved(parts):
    state = torch.random.get_rng_state()
    first = draw(parts, [[5]], [3], Sampler(max_new_tokens=5))
    torch.manual_seed(999)
    assert draw(parts, [[5]], [3], Sampler(max_new_tokens=5)) == first
    torch.random.set_rng_state(state)


def test_end_token_ends_a_row_and_the_limit_cuts_it():
    model = random_qwen2(2)
    model.generation_config.eos_token_id = list(range(0, 258, 8))
    parts = parts_of(model)
    assert parts.end_ids == set(range(0, 258, 8))
    rows = draw(parts, [[5]] * 40, range(40), Sampler(max_new_tokens=12))
    finished = [row for row in rows if row.finished]
    cut = [row for row in rows if not row.finished]
    assert finished and cut
    for row in finished:
        assert row.token_ids[-1] % 8 == 0
        assert all(token % 8 for token in row.token_ids[:-1])
    for row in cut:
        assert len(row.token_ids) == 12
        assert all(token % 8 for token in row.token_ids)
    assert all(len(row.logprobs) == len(row.token_ids) for row in rows)


def test_a_row_that_ends_with_its_last_token_is_finished():
    model = random_qwen2(2)
    model.generation_config.eos_token_id = list(range(258))
    (row,) = draw(parts_of(model), [[5]], [0], Sampler(max_new_tokens=1))
    assert row.finished
    assert len(row.token_ids) == 1


# Frequencies


def exact_sequences(model, prompt, length, temperature):
    """The probability of every sequence that ends, or is cut at `length`."""
    whole = list(itertools.product(range(model.config.vocab_size), repeat=length))
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids] for ids in whole])).logits.double()
    logprobs = (logits[:, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
    logprobs = logprobs.gather(2, torch.tensor(whole).unsqueeze(2)).squeeze(2)
    found = {}
    for row, ids in enumerate(whole):
        stop = ids.index(END_ID) + 1 if END_ID in ids else length
        found[ids[:stop]] = float(logprobs[row, :stop].sum().exp())
    return found


def p_value(counts, probs):
    """Of Pearson's test; what is expected fewer than five times is taken together."""
    total = sum(counts.values())
    expected = np.array([total * p for p in probs.values()])
    found = np.array([counts.get(ids, 0) for ids in probs])
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
    found = np.append(found[~rare], found[rare].sum())
    return chi2.sf(((found - expected) ** 2 / expected).sum(), len(expected) - 1)


@pytest.mark.parametrize("top_p", [1.0, 0.999999])
def test_frequencies_of_sequences_follow_the_model(top_p):
    """Against the exact distribution of all sequences of up to three of seven tokens.

    Its power: 12,000 rows tell a temperature of 0.8 from one of 0.9, at p < 1e-6.
    """
    model = random_qwen2(4, vocab_size=7)
    probs = exact_sequences(model, [3, 4], 3, 0.8)
    assert sum(probs.values()) == pytest.approx(1, abs=1e-6)
    sampler = Sampler(max_new_tokens=3, temperature=0.8, top_p=top_p)
    counts: dict[tuple[int, ...], int] = {}
    for row in draw(parts_of(model), [[3, 4]] * 12_000, range(12_000), sampler):
        ids = tuple(row.token_ids)
        counts[ids] = counts.get(ids, 0) + 1
    assert p_value(counts, probs) > 1e-3
    assert p_value(counts, exact_sequences(model, [3, 4], 3, 0.9)) < 1e-6


def test_frequencies_over_several_blocks_follow_the_model(wide):
    """Power: the same draws against a distribution one token further on have p < 1e-6."""
    probs = forced_logits(wide, [9, 10], [0])[0].softmax(-1).tolist()
    count = 10_000
    rows = draw(parts_of(wide), [[9, 10]] * count, range(count), Sampler(max_new_tokens=1))
    found = np.bincount([row.token_ids[0] for row in rows], minlength=1291)
    counts = {(token,): int(n) for token, n in enumerate(found)}
    assert p_value(counts, {(token,): p for token, p in enumerate(probs)}) > 1e-3
    shifted = {((token + 1) % 1291,): p for token, p in enumerate(probs)}
    assert p_value(counts, shifted) < 1e-6


# Rows as they end


def test_a_row_is_handed_over_as_soon_as_it_has_ended(wide):
    """A row of n tokens comes after n calls of the model, outside of inference mode, once."""
    calls, seen = [], {}
    hook = wide.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))

    def on_row(b, row):
        assert b not in seen
        seen[b] = (row, len(calls), torch.is_inference_mode_enabled())

    try:
        sampler = Sampler(max_new_tokens=24)
        rows = draw(parts_of(wide), PROMPTS * 4, range(24), sampler, on_row=on_row)
    finally:
        hook.remove()
    assert [seen[b][0] for b in range(24)] == rows
    assert {row.finished for row in rows} == {True, False}
    for row, made, inference in seen.values():
        assert made == len(row.token_ids)
        assert not inference
    assert [len(row.token_ids) for row, _, _ in seen.values()] == sorted(
        len(row.token_ids) for row in rows
    )


def test_what_the_receiver_of_a_row_raises_ends_the_drawing(wide):
    def on_row(b, row):
        raise KeyError(f"row {b}")

    with pytest.raises(KeyError, match="row"):
        draw(parts_of(wide), PROMPTS, SEEDS, Sampler(max_new_tokens=24), on_row=on_row)


# One token


@settings(max_examples=60, deadline=None)
@given(
    count=st.sampled_from([1, 2, 511, 512, 513, 1024, 1300]),
    zeros=st.sampled_from([0.0, 0.5, 0.99]),
    numbers=st.lists(
        st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 1 - 2**-53]),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 99),
)
def test_blocks_choose_what_one_long_sum_would(count, zeros, numbers, seed):
    dice = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(numbers), count, generator=dice) ** 8 * 100
    weights[torch.rand(len(numbers), count, generator=dice) < zeros] = 0.0
    weights[:, seed % count] = 1e-3
    shares = torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)
    chosen = inverse_cdf(weights, shares)
    assert (weights.gather(1, chosen) > 0).all()
    cumulative = weights.double().cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    after = cumulative.gather(1, chosen)
    before = after - (weights.double() / weights.double().sum(1, keepdim=True)).gather(1, chosen)
    assert (before - 1e-6 <= shares).all()
    assert (shares <= after + 1e-6).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_of_the_head_are_the_head(bias, dtype):
    head = torch.nn.Linear(16, 2500, bias=bias, dtype=dtype)
    hidden = torch.randn(3, 16, dtype=dtype)
    found = logits_into(torch.full((3, 2500), math.nan), head, hidden, 0.5)
    torch.testing.assert_close(found, head(hidden).float() / 0.5, rtol=1e-5, atol=1e-5)


class LargeTensors(TorchDispatchMode):
    """The storages of at least this many bytes that operations return."""

    def __init__(self, least_bytes):
        super().__init__()
        self.least_bytes, self.found = least_bytes, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.nbytes() >= self.least_bytes:
                    self.found[storage.data_ptr()] = storage  # kept, so that none comes twice
        return result


def test_only_one_tensor_is_as_large_as_the_logits():
    model = random_qwen2(vocab_size=9000)
    with LargeTensors(8 * 9000 * 4) as large:
        draw(parts_of(model), [[5]] * 8, range(8), Sampler(max_new_tokens=3, temperature=0.9))
    weight = model.lm_head.weight.untyped_storage().data_ptr()
    assert len(large.found.keys() - {weight}) == 1


def test_top_p_keeps_the_smallest_sufficient_set():
    probs = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).expand(1000, 4)
    numbers = torch.arange(1000, dtype=torch.float64).unsqueeze(1) / 1000
    found = np.bincount(inverse_cdf(probs, numbers, top_p=0.7).squeeze(1), minlength=4)
    assert found.tolist() == pytest.approx([0, 667, 0, 333], abs=1)


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 1), (0.3, 1), (0.5, 3), (0.999, 3), (1 - 2**-53, 3)]
)
def test_impossible_tokens_are_never_drawn(uniform, token):
    probs = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    chosen = inverse_cdf(probs, torch.tensor([[uniform]], dtype=torch.float64))
    assert chosen.item() == token


def test_uniforms_depend_on_their_seed_alone():
    block = uniforms([3, 2**31 - 1, 3], 4)
    assert block[0].tolist() == block[2].tolist() == uniforms([3], 4)[0].tolist()
    assert block[0].tolist() == uniforms([3], 9)[0, :4].tolist()
    assert block[0].tolist() != block[1].tolist()


def test_no_prompts_no_rows(parts):
    assert draw(parts, [], [], Sampler(max_new_tokens=4)) == []


def test_sliding_windows_get_a_cache_that_knows_them():
    plain = make_cache(random_qwen2().config, 8)
    assert all(isinstance(layer, PreallocatedLayer) for layer in plain.layers)
    sliding = random_qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert not any(
        isinstance(layer, PreallocatedLayer) for layer in make_cache(sliding.config, 8).layers
    )
