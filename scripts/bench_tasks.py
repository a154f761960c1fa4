"""What `bench_decoders.py` has decoded: simulated answers of a network, and real ones of models of this project.

A task is a folder. In it task.json describes the tokens; words.txt is the vocabulary and lexicon.txt its spelling,
as flashlight reads it; lm.arpa is a model of words. Of each set, dev and test, the .npz holds the frames of all
utterances, and the .json their texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ctc_simulator import Channel, confusions, simulate
from numpy.typing import NDArray

from asr import audio
from asr.data.manifest import Utterance, read_manifest
from asr.files import atomic_path, write_json, write_text
from asr.recognizer import Recognizer, load
from asr.text import arpa, kneser_ney, ngram, tokenizer
from asr.text.tokenizer import Tokenizer

LM_ORDER, LM_WORDS = 3, 20_000
HELD_OUT = 0.15
"""Share of the text's speakers whose sentences the simulator says; the language model never sees them."""
SENTENCE_WORDS = range(4, 26)
CHANNELS = {"characters": Channel(gap=1.8, confusion=0.075), "bpe": Channel(gap=2.5, confusion=0.15)}
BPE_SIZE = 500


def simulated(work: Path, text: Path, sizes: Mapping[str, int]) -> Iterator[Path]:
    """The hard synthetic tasks, of characters and of word pieces."""
    speakers: dict[str, list[str]] = {}
    for line in text.read_text(encoding="utf-8").splitlines():
        identity, _, sentence = line.partition(" ")
        speakers.setdefault(identity.partition("-")[0], []).append(sentence.strip().lower())
    rng = np.random.default_rng(0)
    names = rng.permutation(sorted(speakers)).tolist()
    held = names[: round(HELD_OUT * len(names))]
    rest = [sentence for name in names[len(held) :] for sentence in speakers[name]]
    for kind, channel in CHANNELS.items():
        task = work / "data" / f"synthetic-{kind}"
        if task.exists():
            yield task
            continue
        tokens = tokenizer.build(kind, rest, BPE_SIZE if kind == "bpe" else None)
        words = frequent_words(rest)
        sentences = sample(speakers, held, set(words), sizes, rng)
        confused = confusions(tokens.surfaces)
        sets = {
            name: [(sentence, simulate(by_word(tokens, sentence), confused, channel, rng)) for sentence in chosen]
            for name, chosen in sentences.items()
        }
        save_task(task, tokens, words, rest, sets)
        yield task


def by_word(tokens: Tokenizer, sentence: str) -> list[list[int]]:
    """The tokens of each word."""
    words: list[list[int]] = []
    for token in tokens.encode(sentence):
        if not words or tokens.surfaces[token].startswith(" "):
            words.append([])
        words[-1].append(token)
    return words


def frequent_words(sentences: Sequence[str]) -> list[str]:
    """The language model's words, the most frequent first."""
    words, counts = np.unique([word for sentence in sentences for word in sentence.split()], return_counts=True)
    return [str(word) for word in words[np.argsort(-counts, kind="stable")][:LM_WORDS]]


def sample(
    speakers: Mapping[str, list[str]],
    held: Sequence[str],
    words: set[str],
    sizes: Mapping[str, int],
    rng: np.random.Generator,
) -> dict[str, list[str]]:
    """Sentences for each set, which has speakers of its own; of known words, for closed vocabularies' sake."""
    sets = {}
    for index, (name, size) in enumerate(sizes.items()):
        sentences = [sentence for speaker in held[index :: len(sizes)] for sentence in speakers[speaker]]
        fit = [s for s in sentences if len(s.split()) in SENTENCE_WORDS and words.issuperset(s.split())]
        sets[name] = [fit[index] for index in rng.permutation(len(fit))[:size]]
    return sets


def recorded(work: Path, model: Path, corpus: Path, sizes: Mapping[str, int]) -> Path:
    """What a model of this project answers to a prepared corpus; the training set is the language model's text."""
    recognizer = load(model)
    task = work / "data" / f"{recognizer.model.config.name}-{recognizer.model.config.tokens.kind}"
    if task.exists():
        return task
    manifests = json.loads((corpus / "corpus.json").read_text(encoding="utf-8"))
    texts = [recognizer.normalizer(utterance.text) for utterance in read_manifest(corpus / manifests["train"])]
    rng = np.random.default_rng(0)
    sets = {}
    for name, paths in (("dev", [manifests["dev"]]), ("test", list(manifests["tests"].values()))):
        utterances = [utterance for path in paths for utterance in read_manifest(corpus / path)]
        drawn = [utterances[index] for index in rng.permutation(len(utterances))[: sizes[name]]]
        sets[name] = [(recognizer.normalizer(utterance.text), answer(recognizer, utterance)) for utterance in drawn]
    save_task(task, recognizer.model.tokenizer, frequent_words(texts), texts, sets)
    return task


def answer(recognizer: Recognizer, utterance: Utterance) -> NDArray[np.float32]:
    """Log-probabilities (frames, vocab) of a recording."""
    log_probs, lengths = recognizer.log_probs([audio.load(utterance.source, recognizer.sample_rate)])
    frames: NDArray[np.float32] = log_probs[0, : int(lengths[0])].cpu().numpy()
    return frames


def save_task(
    folder: Path,
    tokens: Tokenizer,
    words: Sequence[str],
    texts: Sequence[str],
    sets: Mapping[str, Sequence[tuple[str, NDArray[np.float32]]]],
) -> None:
    """Write a task."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "task.json", {"kind": tokens.kind, "surfaces": tokens.surfaces})
        write_text(temporary / "words.txt", "".join(f"{word}\n" for word in words))
        write_text(temporary / "lexicon.txt", "".join(f"{word} {spelling(tokens, word)}\n" for word in words))
        model = kneser_ney.build(texts, LM_ORDER, vocabulary=words).model
        arpa.write(ngram.to_entries(model), temporary / "lm.arpa")
        for name, pairs in sets.items():
            write_json(temporary / f"{name}.json", [sentence for sentence, _ in pairs])
            lengths = [len(frames) for _, frames in pairs]
            np.savez(temporary / f"{name}.npz", log_probs=np.concatenate([x for _, x in pairs]), lengths=lengths)


def spelling(tokens: Tokenizer, word: str) -> str:
    """Tokens of a word; a character model's end with the space."""
    pieces = [tokens.surfaces[token].replace(" ", "▁") for token in tokens.encode(word)]
    return " ".join([*pieces, "▁"] if tokens.kind == "characters" else pieces)
