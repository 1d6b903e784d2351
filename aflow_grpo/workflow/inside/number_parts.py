"""Modules about numbers and collections, as far as workflows use them (see `builtin_parts`)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

_statistics_StatisticsError = ValueError


def _statistics_mean(data: Any) -> Any:
    values = list(data)
    if not values:
        raise ValueError("mean requires at least one data point")
    total = sum(values) if all(isinstance(v, int) for v in values) else math.fsum(values)
    if isinstance(total, int) and total % len(values) == 0:
        return total // len(values)
    return total / len(values)


def _statistics_fmean(data: Any) -> Any:
    values = list(data)
    if not values:
        raise ValueError("fmean requires at least one data point")
    return math.fsum(values) / len(values)


def _statistics_median(data: Any) -> Any:
    values = sorted(data)
    if not values:
        raise ValueError("no median for empty data")
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return (values[middle - 1] + values[middle]) / 2


def _statistics_median_low(data: Any) -> Any:
    values = sorted(data)
    if not values:
        raise ValueError("no median for empty data")
    return values[(len(values) - 1) // 2]


def _statistics_median_high(data: Any) -> Any:
    values = sorted(data)
    if not values:
        raise ValueError("no median for empty data")
    return values[len(values) // 2]


def _statistics_mode(data: Any) -> Any:
    pairs = Counter(list(data)).most_common(1)
    if not pairs:
        raise ValueError("no mode for empty data")
    return pairs[0][0]


def _statistics_multimode(data: Any) -> Any:
    counts = Counter(list(data))
    most = max(counts.values()) if counts else 0
    return [value for value in counts if counts[value] == most]


def _statistics_pvariance(data: Any, mu: Any = None) -> Any:
    values = list(data)
    if not values:
        raise ValueError("pvariance requires at least one data point")
    centre = _statistics_mean(values) if mu is None else mu
    return _statistics_mean([(value - centre) ** 2 for value in values])


def _statistics_variance(data: Any, xbar: Any = None) -> Any:
    values = list(data)
    if len(values) < 2:
        raise ValueError("variance requires at least two data points")
    centre = _statistics_mean(values) if xbar is None else xbar
    squares = [(value - centre) ** 2 for value in values]
    total = sum(squares) if all(isinstance(v, int) for v in squares) else math.fsum(squares)
    if isinstance(total, int) and total % (len(values) - 1) == 0:
        return total // (len(values) - 1)
    return total / (len(values) - 1)


def _statistics_stdev(data: Any, xbar: Any = None) -> Any:
    return math.sqrt(_statistics_variance(data, xbar))


def _statistics_pstdev(data: Any, mu: Any = None) -> Any:
    return math.sqrt(_statistics_pvariance(data, mu))


def _heapq_heapify(heap: Any) -> None:
    heap.sort()


def _heapq_heappush(heap: Any, item: Any) -> None:
    heap.append(item)
    heap.sort()


def _heapq_heappop(heap: Any) -> Any:
    if not heap:
        raise IndexError("index out of range")
    heap.sort()
    return heap.pop(0)


def _heapq_heappushpop(heap: Any, item: Any) -> Any:
    _heapq_heappush(heap, item)
    return heap.pop(0)


def _heapq_heapreplace(heap: Any, item: Any) -> Any:
    first = _heapq_heappop(heap)
    _heapq_heappush(heap, item)
    return first


def _heapq_nlargest(n: int, iterable: Any, key: Any = None) -> Any:
    return sorted(iterable, key=key, reverse=True)[: max(n, 0)]


def _heapq_nsmallest(n: int, iterable: Any, key: Any = None) -> Any:
    return sorted(iterable, key=key)[: max(n, 0)]


def _operator_itemgetter(*keys: Any) -> Any:
    if len(keys) == 1:
        return lambda value: value[keys[0]]
    return lambda value: tuple([value[key] for key in keys])


def _operator_attrgetter(*names: Any) -> Any:
    if len(names) == 1:
        return lambda value: getattr(value, names[0])
    return lambda value: tuple([getattr(value, name) for name in names])


def _operator_add(a: Any, b: Any) -> Any:
    return a + b


def _operator_sub(a: Any, b: Any) -> Any:
    return a - b


def _operator_mul(a: Any, b: Any) -> Any:
    return a * b


def _operator_truediv(a: Any, b: Any) -> Any:
    return a / b


def _operator_floordiv(a: Any, b: Any) -> Any:
    return a // b


def _operator_mod(a: Any, b: Any) -> Any:
    return a % b


def _operator_pow(a: Any, b: Any) -> Any:
    return a**b


def _operator_eq(a: Any, b: Any) -> Any:
    return a == b


def _operator_ne(a: Any, b: Any) -> Any:
    return a != b


def _operator_lt(a: Any, b: Any) -> Any:
    return a < b


def _operator_le(a: Any, b: Any) -> Any:
    return a <= b


def _operator_gt(a: Any, b: Any) -> Any:
    return a > b


def _operator_ge(a: Any, b: Any) -> Any:
    return a >= b


def _operator_neg(a: Any) -> Any:
    return -a


_collections_OrderedDict = dict


def _m_move_to_end(value: Any, key: Any, last: bool = True) -> Any:
    if not isinstance(value, dict):
        return value.move_to_end(key, last)
    item = value.pop(key)
    rest = dict(value)
    if not last:
        value.clear()
        value[key] = item
        value.update(rest)
    else:
        value[key] = item
    return None


def _functools_wraps(wrapped: Any, *args: Any, **kwargs: Any) -> Any:
    return lambda function: function


def _functools_cached_property(function: Any) -> Any:
    return function


def _typing_cast(kind: Any, value: Any) -> Any:
    return value
