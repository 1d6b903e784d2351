"""Log-probabilities of given tokens from hidden states, without ever holding all logits.

At a vocabulary of 152 k the logits of a few thousand positions are gigabytes, and a plain
`log_softmax` with its gradient holds three copies. Here the head is applied to one tile at a time,
some positions by some of the vocabulary, with running sums as in FlashAttention (arXiv 2205.14135).

With x = (W h + b) / T and p = softmax(x), the gradient to a hidden state is known up to the factor
that comes from above: d log p_t / dh = (W_t - Σ_v p_v W_v) / T. It is summed in the same pass,
while the tile is there, and kept: one vector per position instead of its logits. Under a frozen
head the backward pass is then a product per position. Tiles are computed again there only for
gradients that need them: the head's own and the entropy's.

Not here: which positions are scored; the caller passes hidden states of completion positions only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["token_logprobs"]

_CPU_TILE, _DEVICE_TILE = (512, 4096), (4096, 8192)
"""Positions and vocabulary entries per tile. On processors 8 MB in fp32: larger tiles were measured
to be no faster."""

_MIXED_PRODUCT = torch.__version__ >= "2.8"
"""Whether a product of half precision on CUDA can be summed in fp32."""


def token_logprobs(
    hidden_BTH: Tensor,
    weight_VH: Tensor,
    targets_BT: Tensor,
    *,
    temperature: float,
    bias_V: Tensor | None = None,
    with_entropy: bool = True,
    tile: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """log softmax((W h + b) / temperature)[target] and the entropy of that distribution.

    Exact: equals the full computation to rounding, in value and in gradient. Half precision is
    raised to fp32 after the head, fp64 stays. A frozen `weight_VH` gets no gradient. An entropy
    that is only looked at costs nothing in the backward pass.

    Args:
        hidden_BTH: Hidden states that predict the targets, (..., H).
        weight_VH: The output head's weight, (V, H).
        targets_BT: Token ids, (...), int64.
        temperature: Logits are divided by it, > 0.
        bias_V: The head's bias, (V,).
        with_entropy: Whether the entropy is wanted.
        tile: Positions and vocabulary entries per tile; None chooses by the device.

    Returns:
        Log-probabilities and entropies in nats, both of the shape of `targets_BT`; entropies are
        None when not wanted.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature:g}: expected more than 0")
    shape = targets_BT.shape
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])
    targets_N = targets_BT.reshape(-1)
    if hidden_NH.shape[0] != targets_N.shape[0]:
        raise ValueError(
            f"hidden states of shape {tuple(hidden_BTH.shape)} do not fit targets {tuple(shape)}"
        )
    kind = weight_VH.device.type
    autocast = torch.is_autocast_enabled(kind)
    settings = _Settings(
        temperature,
        torch.get_autocast_dtype(kind) if autocast else weight_VH.dtype,
        *(tile or (_CPU_TILE if kind == "cpu" else _DEVICE_TILE)),
        with_entropy=with_entropy,
        # Inside `apply` there is no telling whether the caller wants gradients.
        with_pull=hidden_NH.requires_grad and torch.is_grad_enabled(),
    )
    logprobs_N, entropy_N = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_NH, weight_VH, bias_V, targets_N, settings
    )
    return logprobs_N.view(shape), entropy_N.view(shape) if with_entropy else None


class _Settings(NamedTuple):
    temperature: float
    dtype: torch.dtype
    """Of the product with the head."""
    most_rows: int
    most_columns: int
    with_entropy: bool
    with_pull: bool
    """Keep d logprob / d hidden."""


class _Tile(NamedTuple):
    """R positions by C vocabulary entries."""

    rows: slice
    columns: slice
    logits_RC: Tensor
    """x, in fp32 or fp64; whoever gets it may overwrite it."""
    weight_CH: Tensor
    place_R1: Tensor
    """Where each position's target is among the columns."""
    there_R: Tensor
    """Whether it is there at all."""


class _Scan(NamedTuple):
    """What one pass over the vocabulary finds, in fp32 or fp64."""

    logprobs_N: Tensor
    log_sums_N: Tensor
    """log Σ_v exp x_v."""
    entropy_N: Tensor
    pull_NH: Tensor
    """d logprob / d hidden; empty when not kept."""


class _Head:
    """Positions and the output head that is applied to them, tile by tile."""

    def __init__(
        self,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        settings: _Settings,
    ) -> None:
        self.hidden_NH = hidden_NH.to(settings.dtype)
        self.weight_VH = weight_VH
        self.bias_V = bias_V
        self.targets_N = targets_N
        self.settings = settings

    def rows(self) -> Iterator[slice]:
        """Positions, at most a tile's height at once."""
        size, count = self.settings.most_rows, len(self.targets_N)
        return (slice(first, min(first + size, count)) for first in range(0, count, size))

    def tiles(self, rows: slice) -> Iterator[_Tile]:
        """The tiles of some positions, over the whole vocabulary."""
        size, count = self.settings.most_columns, self.weight_VH.shape[0]
        targets_R = self.targets_N[rows]
        for first in range(0, count, size):
            columns = slice(first, min(first + size, count))
            weight_CH = self.weight_VH[columns].to(self.settings.dtype)
            there_R = (targets_R >= first) & (targets_R < columns.stop)
            place_R1 = (targets_R - first).where(there_R, 0).unsqueeze(1)
            logits_RC = self._logits(rows, columns, weight_CH)
            yield _Tile(rows, columns, logits_RC, weight_CH, place_R1, there_R)

    def _logits(self, rows: slice, columns: slice, weight_CH: Tensor) -> Tensor:
        bias_C = None if self.bias_V is None else self.bias_V[columns].to(weight_CH.dtype)
        logits_RC = _widened(F.linear(self.hidden_NH[rows], weight_CH, bias_C))
        temperature = self.settings.temperature
        return logits_RC if temperature == 1.0 else logits_RC.div_(temperature)

    def scan(self) -> _Scan:
        """One pass over everything."""
        count, width = self.hidden_NH.shape
        logprobs_N, log_sums_N, entropy_N = _wide_zeros(self.hidden_NH, 3, count).unbind()
        pull_NH = _wide_zeros(self.hidden_NH, count, width if self.settings.with_pull else 0)
        found = _Scan(logprobs_N, log_sums_N, entropy_N, pull_NH)
        for rows in self.rows():
            self._scan_rows(rows, found)
        return found

    def _scan_rows(self, rows: slice, found: _Scan) -> None:
        """Running sums of e = exp(x - highest so far)."""
        vectors_RH = found.pull_NH[rows]
        # Σ e, Σ e (x - highest), and x of the target
        sum_R, weighted_R, target_R = _wide_zeros(vectors_RH, 3, len(vectors_RH)).unbind()
        highest_R = torch.full_like(sum_R, torch.finfo(sum_R.dtype).min)
        for tile in self.tiles(rows):
            logits_RC = tile.logits_RC
            target_R = logits_RC.gather(1, tile.place_R1).squeeze(1).where(tile.there_R, target_R)
            before_R, highest_R = highest_R, torch.maximum(highest_R, logits_RC.amax(1))
            drop_R = before_R - highest_R
            shrink_R = drop_R.exp()
            logits_RC.sub_(highest_R.unsqueeze(1))
            if self.settings.with_entropy:
                exp_RC = logits_RC.exp()
                weighted_R = shrink_R * (weighted_R + drop_R * sum_R)
                weighted_R += torch.linalg.vecdot(exp_RC, logits_RC)
            else:
                exp_RC = logits_RC.exp_()
            sum_R = shrink_R * sum_R + exp_RC.sum(1)
            if self.settings.with_pull:
                vectors_RH.mul_(shrink_R.unsqueeze(1))
                _add_product(vectors_RH, exp_RC, tile.weight_CH)
        log_sum_R = sum_R.log()
        found.logprobs_N[rows] = target_R - highest_R - log_sum_R
        found.log_sums_N[rows] = highest_R + log_sum_R
        found.entropy_N[rows] = log_sum_R - weighted_R / sum_R
        if self.settings.with_pull:
            vectors_RH.div_(-sum_R.unsqueeze(1)).add_(self.weight_VH[self.targets_N[rows]])
            vectors_RH.div_(self.settings.temperature)


def _widened(tensor: Tensor) -> Tensor:
    """In fp32, or fp64 where it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _wide_zeros(like: Tensor, *shape: int) -> Tensor:
    return like.new_zeros(shape, dtype=torch.promote_types(like.dtype, torch.float32))


def _add_product(sum_: Tensor, left: Tensor, right: Tensor) -> None:
    """sum_ += left @ right, summed in fp32 or fp64: half precision is only ever a factor's."""
    if right.dtype != sum_.dtype and right.device.type == "cuda" and _MIXED_PRODUCT:
        sum_.add_(torch.mm(left.to(right.dtype), right, out_dtype=sum_.dtype))
    else:
        sum_.addmm_(left, right.to(sum_.dtype))


class _TokenLogprobs(torch.autograd.Function):
    """(log-probability, entropy) of each position; the module's text has the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor | None]:
        # An entropy that nothing depends on then has the gradient None instead of zeros.
        ctx.set_materialize_grads(False)
        ctx.settings = settings
        found = _Head(hidden_NH, weight_VH, bias_V, targets_N, settings).scan()
        pull_NH = found.pull_NH.to(hidden_NH.dtype)
        saved = (hidden_NH, weight_VH, bias_V, targets_N)
        ctx.save_for_backward(*saved, found.log_sums_N, found.entropy_N, pull_NH)
        return found.logprobs_N, found.entropy_N if settings.with_entropy else None

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_logprobs_N: Tensor | None, of_entropy_N: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, bias_V, targets_N, log_sums_N, entropy_N, pull_NH = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        if of_logprobs_N is None:
            of_logprobs_N = torch.zeros_like(log_sums_N)
        # What was kept is the gradient of the log-probability alone.
        by_tiles = for_hidden and of_entropy_N is not None
        sums = (
            _wide_zeros(hidden_NH, *hidden_NH.shape) if by_tiles else None,
            _wide_zeros(weight_VH, *weight_VH.shape) if for_weight else None,
            _wide_zeros(bias_V, *bias_V.shape) if for_bias else None,
        )
        if any(total is not None for total in sums):
            head = _Head(hidden_NH, weight_VH, bias_V, targets_N, ctx.settings)
            _add_gradients(head, sums, log_sums_N, entropy_N, of_logprobs_N, of_entropy_N)
        to_hidden_NH, to_weight_VH, to_bias_V = sums
        if for_hidden and not by_tiles:
            to_hidden_NH = pull_NH * of_logprobs_N.unsqueeze(1)
        return (
            None if to_hidden_NH is None else to_hidden_NH.to(hidden_NH.dtype),
            None if to_weight_VH is None else to_weight_VH.to(weight_VH.dtype),
            None if to_bias_V is None else to_bias_V.to(bias_V.dtype),
            None,
            None,
        )


def _add_gradients(
    head: _Head,
    sums: tuple[Tensor | None, Tensor | None, Tensor | None],
    log_sums_N: Tensor,
    entropy_N: Tensor,
    of_logprobs_N: Tensor,
    of_entropy_N: Tensor | None,
) -> None:
    """Compute every tile again and add what it contributes to hidden states, weight and bias.

    d/dx of the log-probability is onehot - p; of the entropy it is -p (log p + entropy).
    """
    to_hidden_NH, to_weight_VH, to_bias_V = sums
    of_logprobs_N = of_logprobs_N / head.settings.temperature
    for rows in head.rows():
        of_logprobs_R1 = of_logprobs_N[rows].unsqueeze(1)
        for tile in head.tiles(rows):
            logprobs_RC = tile.logits_RC.sub_(log_sums_N[rows].unsqueeze(1))
            if of_entropy_N is None:
                to_logits_RC = logprobs_RC.exp_().mul_(-of_logprobs_R1)
            else:
                probs_RC = logprobs_RC.exp()
                of_entropy_R1 = (of_entropy_N[rows] / head.settings.temperature).unsqueeze(1)
                factor_RC = logprobs_RC.add_(entropy_N[rows].unsqueeze(1)).mul_(of_entropy_R1)
                to_logits_RC = factor_RC.add_(of_logprobs_R1).mul_(probs_RC).neg_()
            to_logits_RC.scatter_add_(1, tile.place_R1, of_logprobs_R1 * tile.there_R.unsqueeze(1))
            if to_hidden_NH is not None:
                _add_product(to_hidden_NH[rows], to_logits_RC, tile.weight_CH)
            if to_weight_VH is not None:
                _add_product(to_weight_VH[tile.columns], to_logits_RC.t(), head.hidden_NH[rows])
            if to_bias_V is not None:
                to_bias_V[tile.columns] += to_logits_RC.sum(0)
