"""Word2vec on the CPU: threads that share the parameters without locks (Hogwild, Recht et al. 2011).

What is drawn for a centre word is shared by its context words, as in Ji et al. 2016, "Parallelizing word2vec in
shared and distributed memory"; but each of these takes a step of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.compiled import arithmetic, compiled, kernel
from asr.text.word2vec_model import HIERARCHICAL, SAMPLED, Learn, Model, Noise, Piece

PIECE = 10_000
"""Words in a piece of text: long for the machine, short enough to share the work evenly among threads."""

QUEUE = 2
"""Pieces for each thread, under way or waiting."""

_BOUND = 8.0  # beyond ± which the sigmoid is taken for constant
_STEPS = 512
_SIGMOID = (1 / (1 + np.exp(-np.linspace(-_BOUND, _BOUND, _STEPS + 1)))).astype(np.float32)

_LINES = 128  # bytes: of two cache lines, which processors fetch together

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MULTIPLIER = np.uint64(0x2545F4914F6CDD1D)  # xorshift64*, Vigna 2016


Scalar = TypeVar("Scalar", bound=np.generic)


class _Room(NamedTuple):
    """Memory to work in, for one centre word."""

    context: NDArray[np.int32]  # the words around it
    targets: NDArray[np.int32]  # rows of the outputs
    labels: NDArray[np.float32]  # what each of them is to say
    errors: NDArray[np.float32]  # of each target, the learning rate × (label - probability)
    hidden: NDArray[np.float32]  # (dim,)
    gradient: NDArray[np.float32]  # (dim,), of the hidden vector
    random: NDArray[np.uint64]  # (1,), the state of the generator


@contextmanager
def training(model: Model, threads: int) -> Iterator[Learn]:
    """Train a model's arrays in place, a thread to a piece of text.

    Args:
        model: the model.
        threads: how many work at once. With one, the same pieces give the same model again.
    """

    def work(piece: Piece) -> None:
        _learn(model, _room(model, piece.seed), piece.ids, piece.rate)

    def learn_alone(pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            work(piece)

    def learn(pieces: Iterable[Piece]) -> None:
        under_way: deque[Future[None]] = deque()
        for piece in pieces:  # this thread makes them, while the others learn
            under_way.append(pool.submit(work, piece))
            if len(under_way) > QUEUE * threads:
                under_way.popleft().result()
        for future in under_way:
            future.result()

    with ThreadPoolExecutor(threads) as pool:
        yield learn_alone if threads == 1 else learn


def _room(model: Model, seed: int) -> _Room:
    longest = int(np.diff(model.paths.offsets).max())
    targets, dim = max(model.samples + 1, longest), model.inputs.shape[1]
    room = _Room(
        _alone(2 * model.window, np.int32),
        _alone(targets, np.int32),
        _alone(targets, np.float32),
        _alone(targets, np.float32),
        _alone(dim, np.float32),
        _alone(dim, np.float32),
        _alone(1, np.uint64),
    )
    room.random[0] = seed
    return room


def _alone(size: int, kind: type[Scalar]) -> NDArray[Scalar]:
    """An array in cache lines of its own, for which threads would otherwise wait for one another."""
    width = size * np.dtype(kind).itemsize
    memory = np.empty(width + 2 * _LINES, np.uint8)
    begin = -memory.ctypes.data % _LINES
    return memory[begin : begin + width].view(kind)


@compiled
def _learn(model: Model, room: _Room, ids: NDArray[np.int32], rate: float) -> None:
    for position in range(len(ids)):
        if ids[position] >= 0:
            reach = 1 + _below(room.random, model.window)
            width = _find_context(ids, position, reach, room.context)
            if width:
                count = _find_targets(model, ids[position], room)
                if model.cbow:
                    _step(model, 0, width, count, rate, room)
                else:
                    for index in range(width):
                        _step(model, index, index + 1, count, rate, room)


# What is drawn


@kernel
def _random(state: NDArray[np.uint64]) -> np.uint64:
    bits = state[0]
    bits ^= bits >> np.uint64(12)
    bits ^= bits << np.uint64(25)
    bits ^= bits >> np.uint64(27)
    state[0] = bits
    return np.uint64(bits * _MULTIPLIER)


@kernel
def _below(state: NDArray[np.uint64], bound: int) -> int:
    return int(np.int64(((_random(state) >> _HALF) * np.uint64(bound)) >> _HALF))


@kernel
def _draw(state: NDArray[np.uint64], noise: Noise) -> int:
    bits = _random(state)
    index = int(np.int64(((bits >> _HALF) * np.uint64(len(noise.share))) >> _HALF))
    return index if (bits & _LOW) * 2.0**-32 < noise.share[index] else int(noise.other[index])


@kernel
def _find_context(ids: NDArray[np.int32], position: int, reach: int, context: NDArray[np.int32]) -> int:
    """List the words of the same sentence within reach, and say how many they are."""
    width = 0
    for step in (-1, 1):
        for distance in range(1, reach + 1):
            other = position + step * distance
            if other < 0 or other >= len(ids) or ids[other] < 0:
                break
            context[width] = ids[other]
            width += 1
    return width


@kernel
def _find_targets(model: Model, centre: int, room: _Room) -> int:
    """List the outputs that are to tell the centre word from others, and say how many they are."""
    if model.objective == HIERARCHICAL:
        first = int(model.paths.offsets[centre])
        count = int(model.paths.offsets[centre + 1]) - first
        for target in range(count):
            room.targets[target] = model.paths.nodes[first + target]
            room.labels[target] = model.paths.turns[first + target]
        return count
    room.targets[0], room.labels[0] = centre, 1
    count = 1
    for _ in range(model.samples):
        word = _draw(room.random, model.noise)
        if word != centre:
            room.targets[count], room.labels[count] = word, 0
            count += 1
    return count


# A step down the gradient


@kernel
def _step(model: Model, first: int, last: int, count: int, rate: float, room: _Room) -> None:
    """Learn from some words of the context, whose mean is the hidden vector."""
    share = np.float32(1 / (last - first))
    _clear(room.hidden)
    for index in range(first, last):
        _add(room.hidden, share, model.inputs[room.context[index]])
    _find_errors(model, count, rate, room)
    _clear(room.gradient)
    for target in range(count):
        _add(room.gradient, room.errors[target], model.outputs[room.targets[target]])
    for target in range(count):
        _add(model.outputs[room.targets[target]], room.errors[target], room.hidden)
    for index in range(first, last):
        _add(model.inputs[room.context[index]], np.float32(1), room.gradient)


@kernel
def _find_errors(model: Model, count: int, rate: float, room: _Room) -> None:
    for target in range(count):
        room.errors[target] = _dot(room.hidden, model.outputs[room.targets[target]])
    if model.objective == SAMPLED:
        _to_softmax(model, count, room)
    else:
        for target in range(count):
            room.errors[target] = _sigmoid(room.errors[target])
    for target in range(count):
        room.errors[target] = rate * (room.labels[target] - room.errors[target])


@kernel
def _to_softmax(model: Model, count: int, room: _Room) -> None:
    highest, total = -math.inf, 0.0
    for target in range(count):
        room.errors[target] -= model.log_expected[room.targets[target]]
        highest = max(highest, room.errors[target])
    for target in range(count):
        room.errors[target] = math.exp(room.errors[target] - highest)
        total += room.errors[target]
    for target in range(count):
        room.errors[target] /= total


@kernel
def _sigmoid(value: float) -> float:
    place = (min(max(value, -_BOUND), _BOUND) + _BOUND) * (_STEPS / (2 * _BOUND))
    index = min(int(place), _STEPS - 1)
    return float(_SIGMOID[index] + (place - index) * (_SIGMOID[index + 1] - _SIGMOID[index]))


@kernel
def _clear(vector: NDArray[np.float32]) -> None:
    for index in range(len(vector)):
        vector[index] = 0


@arithmetic
def _dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for index in range(len(left)):
        total += left[index] * right[index]
    return total


@arithmetic
def _add(target: NDArray[np.float32], factor: np.float32, source: NDArray[np.float32]) -> None:
    for index in range(len(target)):
        target[index] += factor * source[index]
