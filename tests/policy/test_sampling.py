"""Sampling: the same distribution as the model's, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_models import END_ID, byte_tokenizer, random_qwen2

from aflow_grpo.policy.cache import PreallocatedLayer, make_cache
from aflow_grpo.policy.choosing import inverse_cdf
from aflow_grpo.policy.loading import causal_parts
from aflow_grpo.policy.sampling import Sampler, draw, uniforms

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
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ],
    ids=["full attention", "sliding window"],
)
def test_greedy_equals_transformers_generate(changes):
    model = random_qwen2(1, **changes)
    rows = draw(parts_of(model), PROMPTS, SEEDS, Sampler(max_new_tokens=12, greedy=True))
    assert [row.token_ids for row in rows] == [hf_greedy(model, p, 12) for p in PROMPTS]


def test_logprobs_are_those_of_a_teacher_forced_pass(model, parts):
    for row, prompt in zip(
        draw(parts, PROMPTS, SEEDS, Sampler(max_new_tokens=20, temperature=0.8)),
        PROMPTS,
        strict=True,
    ):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + row.token_ids])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.8).log_softmax(-1).gather(1, torch.tensor([row.token_ids]).T)
        assert row.logprobs == pytest.approx(expected.squeeze(1).tolist(), abs=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(parts):
    sampler = Sampler(max_new_tokens=12)
    together = draw(parts, PROMPTS, SEEDS, sampler)
    backwards = draw(parts, PROMPTS[::-1], SEEDS[::-1], sampler)[::-1]
    alone = [draw(parts, [p], [s], sampler)[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert one.token_ids == two.token_ids == three.token_ids
        assert one.logprobs == pytest.approx(three.logprobs, abs=1e-5)


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


def test_frequencies_follow_the_model(model, parts):
    with torch.no_grad():
        expected = model(torch.tensor([[9, 10]])).logits[0, -1].softmax(-1)
    count = 4000
    rows = draw(parts, [[9, 10]] * count, range(count), Sampler(max_new_tokens=1))
    found = np.bincount([row.token_ids[0] for row in rows], minlength=258)
    chi2 = ((found - count * expected.numpy()) ** 2 / (count * expected.numpy())).sum()
    # 257 degrees of freedom: mean 257, standard deviation 22.7.
    assert chi2 < 257 + 5 * 22.7


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
