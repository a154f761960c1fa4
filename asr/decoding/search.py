"""CTC prefix beam search, compiled.

Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs",
with what makes it fast:

- One node for each prefix that was ever kept, in a tree on flat arrays; the words, language model and hotwords of a
  prefix are states of automata, kept in its node. What a token adds to a prefix is a factor that depends on nothing
  else, so that the mass of a prefix can flow into a longer one that is already in the beam.
- Probabilities, not their logarithms, in double precision and rescaled in time: sums without exp and log.
- Only the likely tokens of a frame are tried. A frame that is all blank keeps the beam as it is.
- Within a word, the best unigram that can still be reached stands in for the language model (look-ahead).
- Of two prefixes with the same future, one that is better in everything replaces the other (recombination). What
  the other might still have gained from a shorter prefix is lost, which is next to nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records, compiled, kernel
from asr.decoding import hotwords, prefixes
from asr.decoding.frames import find_likely
from asr.decoding.hotwords import Phrases
from asr.decoding.lexicon import NO_WORD, Trie
from asr.decoding.prefixes import NOT_YET
from asr.decoding.selection import keep_largest
from asr.decoding.spelling import SPACE
from asr.hashing import Table, arc, find
from asr.text import ngram
from asr.text.ngram import Ngram

FREE, WORDS, TOKENS, GRAMMAR = range(4)
"""What guides the search: nothing, a lexicon and word language model, one over tokens, or a grammar."""

SAME = -1  # the token of a candidate that is a prefix of the beam, kept
OPTIMISM = 20.0  # by how much a language model may lift a candidate before it is tried at all
RESCALED = 1e-30  # the best prefix's probability; below it, and above its inverse, all are multiplied


TOKEN = np.dtype(
    [("factor", "f8"), ("first", "i4"), ("last", "i4"), ("word", "i4"), ("begins_word", "?")], align=True
)
"""A token: whether a space comes first; where its other letters are in `Rules.letters`; for a language model of
tokens, its word there, negative where it is not allowed, and the factor for using it."""


class Rules(NamedTuple):
    """Which prefixes there are, and what a prefix is worth beside its acoustic probability.

    guide: FREE, WORDS, TOKENS or GRAMMAR.
    tokens: (vocab,) TOKENs; letters: what they spell, as code points.
    trie: of the words that are known.
    look_ahead: (nodes + 1,) the factor that a trie's node holds in advance; the last is that of unknown words.
    closed: whether there are no words but those of the trie.
    lm: the language model.
    lm_start: its state at the start; lm_end: its word for the end, or negative; lm_unknown: that for unknown words.
    alpha: its weight; beta: the bonus of a word; unknown: that of an unknown one (natural logarithms).
    has_phrases: whether there are hotwords; phrases: these.
    grammar: arc(state, code point) → state, from state 0; accepting: (states,) where a sentence may end.
    """

    guide: int
    tokens: Records
    letters: NDArray[np.int32]
    trie: Trie
    look_ahead: NDArray[np.float64]
    closed: bool
    lm: Ngram
    lm_start: int
    lm_end: int
    lm_unknown: int
    alpha: float
    beta: float
    unknown: float
    has_phrases: bool
    phrases: Phrases
    grammar: Table
    accepting: NDArray[np.bool_]


class Limits(NamedTuple):
    """How wide the search is.

    blank: the index of the blank.
    width: how many prefixes are kept.
    worst: a prefix is dropped below this share of the best one's probability.
    token_threshold: a token is tried if its log-probability is within this of the frame's best.
    max_tokens: how many are tried at most, not counting the blank.
    all_blank: log-probability of the blank from which a frame is taken to hold nothing else.
    recombine: whether prefixes with the same future replace one another.
    """

    blank: int
    width: int
    worst: float
    token_threshold: float
    max_tokens: int
    all_blank: float
    recombine: bool


PLACE = np.dtype(
    [("blank", "f8"), ("label", "f8"), ("row", "i4"), ("first_child", "i4"), ("next_child", "i4")], align=True
)
"""A prefix that is kept: its row, the probability of all its paths that end in a blank, and of those that end in
its last token. While a frame is worked on, its children in the beam: the first one, and its parent's next one."""

STATE = np.dtype(
    [("log_scale", "f8"), ("active", "i8"), ("rows", "i8"), ("time", "i8"), ("rested", "?")], align=True
)
"""How many prefixes are kept, how many rows the tree has, how many frames were worked on, whether the last one was
all blank, and the logarithm of what the probabilities were divided by."""

CANDIDATE = np.dtype(
    [("blank", "f8"), ("label", "f8"), ("total", "f8"), ("factor", "f8")]
    + [(name, "i4") for name in ("source", "token", "word", "lm", "phrase")],
    align=True,
)
"""A prefix that may be kept: the place in the beam of the prefix that it comes from, the token that it adds or
SAME, its probabilities, what its row will hold. The prefixes of the beam are the first candidates, in its order."""

UNIT = np.dtype([("probability", "f8"), ("mark", "i8")], align=True)
"""A token in a frame: its probability, 0 if it is not tried; and the prefix that a child in the beam continues by
it."""

BUCKET = np.dtype([("time", "i8"), ("candidate", "i4")], align=True)
"""A place of the hash table of recombination, and the frame for which it holds."""


OUTCOME = np.dtype([("total", "f8"), ("log_mass", "f8"), ("row", "i4"), ("complete", "?")], align=True)
"""A prefix as a whole sentence: the logarithms of its probability with all that the rules add, and of its
probability in the beam; its row; and whether the rules let a sentence end there. Where not, the word that it breaks
off in adds nothing."""


class Beam(NamedTuple):
    """A search under way. tree: PREFIXes; places: (width,) PLACEs; state: one STATE."""

    tree: Records
    places: Records
    state: Records


class Scratch(NamedTuple):
    """What a frame needs, allocated once. tokens: those to try; units: (vocab,) UNITs; candidates: CANDIDATEs;
    kept: the numbers of those that are; values: room for selecting; buckets: BUCKETs."""

    tokens: NDArray[np.int32]
    units: Records
    candidates: Records
    kept: NDArray[np.int32]
    values: NDArray[np.float64]
    buckets: Records


@compiled
def new_beam(limits: Limits, frames: int) -> Beam:
    """A search with room for so many frames."""
    return Beam(prefixes.new_tree(1 + frames * limits.width), np.zeros(limits.width, PLACE), np.zeros(1, STATE))


@compiled
def new_scratch(limits: Limits, vocab: int) -> Scratch:
    """Room for the work on a frame."""
    most = limits.width * (min(limits.max_tokens, vocab) + 1) + 1
    capacity = 4
    while capacity < 2 * most:
        capacity *= 2
    scratch = Scratch(
        np.zeros(vocab, np.int32),
        np.zeros(vocab, UNIT),
        np.zeros(most, CANDIDATE),
        np.zeros(most, np.int32),
        np.zeros(2 * max(most, vocab)),
        np.zeros(capacity, BUCKET),
    )
    for unit in scratch.units:
        unit.mark = -1
    for bucket in scratch.buckets:
        bucket.time = -1
    return scratch


@kernel
def start(rules: Rules, beam: Beam) -> None:
    """Begin an utterance: put the empty prefix into the beam, with all the probability.

    The count of frames goes on, so that nothing in a scratch of earlier utterances is taken for something new.
    """
    phrase = hotwords.step(rules.phrases, 0, SPACE) if rules.has_phrases else 0
    prefixes.add(beam.tree, 0, -1, -1, 0, rules.lm_start, phrase, 1.0)
    beam.tree[0].slot = 0
    place, state = beam.places[0], beam.state[0]
    place.row, place.blank, place.label = 0, 1.0, 0.0
    state.active, state.rows, state.rested, state.log_scale = 1, 1, False, 0.0


@kernel
def advance(
    rules: Rules,
    limits: Limits,
    beam: Beam,
    scratch: Scratch,
    frames: NDArray[np.float32],
    peaks: NDArray[np.float32],
) -> None:
    """Search on through more frames.

    Args:
        rules, limits: of the search.
        beam: with room for `width` more rows for each frame. It is left empty where no prefix that the rules allow
            has any probability.
        scratch: as made for these limits.
        frames: (time, vocab) log-probabilities without NaN.
        peaks: (time,) the highest of each.
    """
    state = beam.state[0]
    for time in range(len(frames)):
        frame = frames[time]
        if state.active == 0:
            return
        if frame[limits.blank] >= limits.all_blank:
            _rest(beam, frame[limits.blank])
            continue
        state.rested = False
        tried = _likely_tokens(limits, scratch, frame, peaks[time])
        _hold(beam, scratch, math.exp(np.float64(frame[limits.blank])))
        count = _grow(rules, limits, beam, scratch, tried)
        kept = _threshold(limits, scratch, count)
        if limits.recombine and rules.guide != FREE:
            kept = _recombine(beam, scratch, kept, state.time)
        kept = _best(limits, scratch, kept)
        _replace(beam, scratch, kept)
        for k in range(tried):
            scratch.units[scratch.tokens[k]].probability = 0.0
        state.time += 1


@kernel
def _rest(beam: Beam, log_blank: float) -> None:
    """A frame in which there is nothing but the blank."""
    state = beam.state[0]
    state.log_scale += log_blank
    if not state.rested:
        for i in range(state.active):
            beam.places[i].blank += beam.places[i].label
            beam.places[i].label = 0.0
        state.rested = True


@kernel
def _likely_tokens(limits: Limits, scratch: Scratch, frame: NDArray[np.float32], peak: float) -> int:
    """List the tokens to try, apart from the blank, and enter their probabilities; returns how many."""
    tried = find_likely(frame, limits.blank, peak - limits.token_threshold, scratch.tokens)
    if tried > limits.max_tokens:
        for k in range(tried):
            scratch.values[k] = frame[scratch.tokens[k]]
        tried = keep_largest(scratch.tokens, scratch.values, tried, limits.max_tokens)
    for k in range(tried):
        token = scratch.tokens[k]
        scratch.units[token].probability = math.exp(np.float64(frame[token]))
    return tried


@kernel
def _hold(beam: Beam, scratch: Scratch, blank: float) -> None:
    """The prefixes of the beam as candidates: by blanks, by repeats, and by what flows in from shorter ones."""
    active = beam.state[0].active
    for i in range(active):
        place, candidate = beam.places[i], scratch.candidates[i]
        token = beam.tree[place.row].token
        candidate.source = i
        candidate.token = SAME
        candidate.blank = (place.blank + place.label) * blank
        candidate.label = place.label * scratch.units[token].probability if token >= 0 else 0.0
        place.first_child = -1
    for i in range(active):
        prefix = beam.tree[beam.places[i].row]
        parent = beam.tree[prefix.parent].slot if prefix.parent >= 0 else -1
        if parent >= 0:
            place = beam.places[parent]
            beam.places[i].next_child = place.first_child
            place.first_child = i
            repeats = prefix.token == beam.tree[prefix.parent].token
            mass = place.blank if repeats else place.blank + place.label
            scratch.candidates[i].label += mass * scratch.units[prefix.token].probability * prefix.factor
    for i in range(active):
        candidate = scratch.candidates[i]
        candidate.total = candidate.blank + candidate.label


@kernel
def _grow(rules: Rules, limits: Limits, beam: Beam, scratch: Scratch, tried: int) -> int:
    """Add the candidates that are a token longer and not in the beam yet; returns the number of all candidates."""
    active = beam.state[0].active
    count = active
    floor, least = 0.0, math.inf
    for i in range(active):
        total = scratch.candidates[i].total
        floor, least = max(floor, total * limits.worst), min(least, total)
    if active == limits.width and not (limits.recombine and rules.guide != FREE):
        floor = max(floor, least)  # what is less would not be kept
    guided = rules.guide != FREE or rules.has_phrases
    optimism = OPTIMISM if guided else 1.0
    for i in range(active):
        place = beam.places[i]
        row = place.row
        last = beam.tree[row].token
        mark = beam.state[0].time * limits.width + i  # of no other prefix and no other frame
        child = place.first_child
        while child >= 0:
            scratch.units[beam.tree[beam.places[child].row].token].mark = mark
            child = beam.places[child].next_child
        for k in range(tried):
            token = scratch.tokens[k]
            unit = scratch.units[token]
            mass = (place.blank + place.label) * unit.probability
            if unit.mark == mark:
                continue
            if token == last:
                mass = place.blank * unit.probability
            if mass <= 0.0 or mass * optimism < floor or (mass < floor and not _may_lift(rules, beam, row, token)):
                continue
            factor, word, lm, phrase = 1.0, 0, 0, 0
            if guided:
                factor, word, lm, phrase = _follow(rules, beam, row, token)
            total = mass * factor
            if total <= 0.0 or total < floor:
                continue
            floor = max(floor, total * limits.worst)
            candidate = scratch.candidates[count]
            candidate.source, candidate.token = i, token
            candidate.blank, candidate.label, candidate.total = 0.0, total, total
            candidate.factor, candidate.word, candidate.lm, candidate.phrase = factor, word, lm, phrase
            count += 1
    return int(count)


@kernel
def _may_lift(rules: Rules, beam: Beam, row: int, token: int) -> bool:
    """Whether the factor of a token after a prefix may be more than 1."""
    if rules.has_phrases and (beam.tree[row].phrase != 0 or rules.tokens[token].begins_word):
        return True
    return rules.guide == TOKENS or (rules.guide == WORDS and rules.tokens[token].begins_word)


@kernel
def _follow(rules: Rules, beam: Beam, row: int, token: int) -> tuple[float, int, int, int]:
    """What a token adds to a prefix: the factor, 0 where it may not follow, and the states after it."""
    prefix, added = beam.tree[row], rules.tokens[token]
    word, lm, phrase = int(prefix.word), int(prefix.lm), int(prefix.phrase)
    factor = 1.0
    space = added.begins_word and row != 0  # a sentence may start with a space or without
    if rules.guide == WORDS:
        if space:
            # Two spaces in a row are no text.
            factor = _end_word(rules, prefix) if word != 0 else 0.0
            lm = int(prefix.end_lm)
            word = 0
        held = rules.look_ahead[word]
        for position in range(added.first, added.last):
            word = find(rules.trie.arcs, arc(word, rules.letters[position])) if word >= 0 else -1
        factor *= rules.look_ahead[word] / held
        if word < 0 and rules.closed:
            factor = 0.0
    elif rules.guide == TOKENS:
        factor = 0.0
        if added.word >= 0:
            log_prob, lm = ngram.score(rules.lm, lm, added.word)
            factor = math.exp(rules.alpha * log_prob) * added.factor
    elif rules.guide == GRAMMAR:
        if space:
            word = find(rules.grammar, arc(word, SPACE))
        for position in range(added.first, added.last):
            word = find(rules.grammar, arc(word, rules.letters[position])) if word >= 0 else -1
        if word < 0:
            factor = 0.0
    if rules.has_phrases and factor > 0.0 and (phrase != 0 or space):
        factor /= rules.phrases.advance[phrase]
        if space:
            phrase = hotwords.step(rules.phrases, phrase, SPACE)
            factor *= rules.phrases.award[phrase]
        for position in range(added.first, added.last):
            phrase = hotwords.step(rules.phrases, phrase, rules.letters[position])
        factor *= rules.phrases.advance[phrase]
    return factor, word, lm, phrase


@kernel
def _end_word(rules: Rules, prefix: Any) -> float:
    """The factor for ending the word of a prefix, worked out once; the state after it goes into `end_lm`."""
    if prefix.end_factor == NOT_YET:
        node = prefix.word
        word = rules.trie.word[node] if node >= 0 else NO_WORD
        if word == NO_WORD and rules.closed:
            prefix.end_factor = 0.0
        else:
            log_prob, state = ngram.score(rules.lm, prefix.lm, rules.lm_unknown if word == NO_WORD else word)
            bonus = rules.beta + (rules.unknown if word == NO_WORD else rules.trie.bonus[node])
            prefix.end_factor = math.exp(rules.alpha * log_prob + bonus) / rules.look_ahead[node]
            prefix.end_lm = state
    return float(prefix.end_factor)


@kernel
def _threshold(limits: Limits, scratch: Scratch, count: int) -> int:
    """Keep the candidates that are not far below the best one; returns how many."""
    best = 0.0
    for i in range(count):
        best = max(best, scratch.candidates[i].total)
    floor = best * limits.worst
    kept = 0
    for i in range(count):
        total = scratch.candidates[i].total
        if total > 0.0 and total >= floor:
            scratch.kept[kept] = i
            kept += 1
    return kept


@kernel
def _recombine(beam: Beam, scratch: Scratch, kept: int, time: int) -> int:
    """Drop candidates that another one with the same states and the same last token surpasses in both masses."""
    mask = len(scratch.buckets) - 1
    for position in range(kept):
        number = scratch.kept[position]
        candidate = scratch.candidates[number]
        mine = _future(beam, candidate)
        mixed = (((mine[0] * 0x9E3779B1 + mine[1]) * 0x85EBCA77 + mine[2]) * 0xC2B2AE3D + mine[3]) * 0x27D4EB2F
        place = (mixed ^ (mixed >> 29)) & mask
        while scratch.buckets[place].time == time:
            other = scratch.candidates[scratch.buckets[place].candidate]
            if mine == _future(beam, other):
                if other.blank >= candidate.blank and other.label >= candidate.label:
                    candidate.total = 0.0
                    break
                if other.blank <= candidate.blank and other.label <= candidate.label:
                    other.total = 0.0
                    break
            place = (place + 1) & mask
        if candidate.total > 0.0:
            scratch.buckets[place].time = time
            scratch.buckets[place].candidate = number
    left = 0
    for position in range(kept):
        if scratch.candidates[scratch.kept[position]].total > 0.0:
            scratch.kept[left] = scratch.kept[position]
            left += 1
    return left


@kernel
def _future(beam: Beam, candidate: Any) -> tuple[int, int, int, int]:
    """All that the future of a candidate depends on."""
    word, lm, phrase, token = candidate.word, candidate.lm, candidate.phrase, candidate.token
    if token == SAME:
        prefix = beam.tree[beam.places[candidate.source].row]
        word, lm, phrase, token = prefix.word, prefix.lm, prefix.phrase, prefix.token
    return int(word), int(lm), int(phrase), int(token)


@kernel
def _best(limits: Limits, scratch: Scratch, kept: int) -> int:
    """Keep the best candidates, as many as the beam is wide; returns how many."""
    if kept <= limits.width:
        return kept
    for position in range(kept):
        scratch.values[position] = scratch.candidates[scratch.kept[position]].total
    return keep_largest(scratch.kept, scratch.values, kept, limits.width)


@kernel
def _replace(beam: Beam, scratch: Scratch, kept: int) -> None:
    """Make the candidates that were kept the new beam, and give rows to those that have none."""
    state = beam.state[0]
    best = 0.0
    for position in range(kept):
        best = max(best, scratch.candidates[scratch.kept[position]].total)
    scale = 1.0
    if best > 0.0 and not RESCALED <= best <= 1.0 / RESCALED:
        scale = 1.0 / best
        state.log_scale += math.log(best)
    for i in range(state.active):
        beam.tree[beam.places[i].row].slot = -1
    for position in range(kept):
        candidate = scratch.candidates[scratch.kept[position]]
        row = beam.places[candidate.source].row
        # The places still hold the old beam, so the new rows wait in the candidates.
        candidate.source = row if candidate.token == SAME else _row(beam, row, candidate)
    for position in range(kept):
        candidate, place = scratch.candidates[scratch.kept[position]], beam.places[position]
        place.row = candidate.source
        place.blank = candidate.blank * scale
        place.label = candidate.label * scale
        beam.tree[place.row].slot = position
    state.active = kept


@kernel
def _row(beam: Beam, parent: int, candidate: Any) -> int:
    """The row of a candidate that is a token longer than its parent: the one that it once had, or a new one."""
    row = beam.tree[parent].child
    while row >= 0 and beam.tree[row].token != candidate.token:
        row = beam.tree[row].sibling
    if row < 0:
        row = beam.state[0].rows
        beam.state[0].rows += 1
        prefixes.add(
            beam.tree,
            row,
            parent,
            candidate.token,
            candidate.word,
            candidate.lm,
            candidate.phrase,
            candidate.factor,
        )
    return int(row)


@compiled
def finish(rules: Rules, beam: Beam) -> Records:
    """The OUTCOMEs of the beam: what each of its prefixes is worth as a whole sentence."""
    outcomes = np.empty(beam.state[0].active, OUTCOME)
    for i in range(beam.state[0].active):
        place, outcome = beam.places[i], outcomes[i]
        prefix = beam.tree[place.row]
        factor, lm = 1.0, int(prefix.lm)
        outcome.complete = True
        if rules.guide == WORDS and prefix.word != 0:
            factor = _end_word(rules, prefix)
            lm = int(prefix.end_lm)
            if factor == 0.0:
                outcome.complete = False
                factor = 1.0 / rules.look_ahead[prefix.word]
        elif rules.guide == GRAMMAR:
            outcome.complete = rules.accepting[prefix.word]
        log_factor = math.log(factor)
        if rules.lm_end >= 0 and (rules.guide == WORDS or rules.guide == TOKENS):
            log_factor += rules.alpha * ngram.score(rules.lm, lm, rules.lm_end)[0]
        if rules.has_phrases:
            after = hotwords.step(rules.phrases, prefix.phrase, SPACE)
            log_factor += math.log(rules.phrases.award[after] / rules.phrases.advance[prefix.phrase])
        outcome.row = place.row
        outcome.log_mass = beam.state[0].log_scale + math.log(place.blank + place.label)
        outcome.total = outcome.log_mass + log_factor
    return outcomes


@kernel
def lm_log_prob(rules: Rules, text: NDArray[np.int32]) -> float:
    """The language model's part in what a text of some tokens is worth."""
    total, state, node = 0.0, rules.lm_start, 0
    for position in range(len(text)):
        token = rules.tokens[text[position]]
        if rules.guide == TOKENS:
            log_prob, state = ngram.score(rules.lm, state, token.word)
            total += log_prob
        elif rules.guide == WORDS:
            if token.begins_word and node != 0:
                log_prob, state = ngram.score(rules.lm, state, _word(rules, node))
                total += log_prob
                node = 0
            for place in range(token.first, token.last):
                node = find(rules.trie.arcs, arc(node, rules.letters[place])) if node >= 0 else -1
    if node != 0:
        log_prob, state = ngram.score(rules.lm, state, _word(rules, node))
        total += log_prob
    if rules.lm_end >= 0 and (rules.guide == WORDS or rules.guide == TOKENS):
        total += ngram.score(rules.lm, state, rules.lm_end)[0]
    return rules.alpha * total


@kernel
def _word(rules: Rules, node: int) -> int:
    """The language model's word for one that ends at a node of the trie, or beyond it."""
    word = rules.trie.word[node] if node >= 0 else NO_WORD
    return rules.lm_unknown if word == NO_WORD else int(word)


@kernel
def common_prefix(beam: Beam) -> int:
    """The row of the longest prefix that all prefixes of the beam share."""
    shared = beam.places[0].row
    for i in range(1, beam.state[0].active):
        other = beam.places[i].row
        while shared != other:  # the later row of the two can't be the shared one
            if shared > other:
                shared = beam.tree[shared].parent
            else:
                other = beam.tree[other].parent
    return int(shared)


@compiled
def compact(beam: Beam) -> None:
    """Forget the prefixes that no prefix of the beam goes on from."""
    tree, state = beam.tree, beam.state[0]
    moved = np.full(state.rows, -1, np.int32)
    for i in range(state.active):
        row = beam.places[i].row
        while row >= 0 and moved[row] < 0:
            moved[row] = 0  # needed
            row = tree[row].parent
    count = 0
    for row in range(state.rows):
        if moved[row] == 0:
            moved[row] = count
            prefix = tree[row]
            parent = moved[prefix.parent] if prefix.parent >= 0 else -1
            slot, end_factor, end_lm = prefix.slot, prefix.end_factor, prefix.end_lm
            prefixes.add(tree, count, parent, prefix.token, prefix.word, prefix.lm, prefix.phrase, prefix.factor)
            tree[count].slot, tree[count].end_factor, tree[count].end_lm = slot, end_factor, end_lm
            count += 1
    for i in range(state.active):
        beam.places[i].row = moved[beam.places[i].row]
    state.rows = count
