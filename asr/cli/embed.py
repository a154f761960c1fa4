"""`asr embed`: word vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr import pictures
from asr.cli.decoding import announced
from asr.cli.inputs import OverwriteFile, check_outputs
from asr.cli.texts import Texts, read_sentences
from asr.errors import DataError, some

if TYPE_CHECKING:
    from asr.text.vector_evaluation import Section
    from asr.text.vectors import Neighbour, WordVectors

app = typer.Typer(no_args_is_help=True, help="Learn and use word vectors.")

DRAWN = 200

Vectors = Annotated[
    Path, typer.Argument(metavar="VECTORS", help="File in the text or binary format of word2vec (.gz too).")
]
Count = Annotated[int, typer.Option(metavar="N", min=1, help="How many words to show.")]
AnalogyMethod = Annotated[
    Literal["add", "multiply"],
    typer.Option("--method", help="How scores are computed: 3CosAdd, or 3CosMul of Levy & Goldberg."),
]

EPILOG = """
Examples:

  asr embed train news.txt.gz --out news.bin

  asr embed neighbours news.bin king

  asr embed analogy news.bin man king woman
"""


@app.command(epilog=EPILOG, short_help="Learn vectors from text.")
def train(
    texts: Texts,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File to make: .txt or .vec (text), .bin (binary), or these and .gz."),
    ],
    dim: Annotated[int, typer.Option(metavar="N", min=1, help="Numbers in a vector.")] = 100,
    architecture: Annotated[
        Literal["skip-gram", "cbow"],
        typer.Option(help="Tell a word from each word around it, or from all of them together."),
    ] = "skip-gram",
    objective: Annotated[
        Literal["negative", "hierarchical", "sampled"],
        typer.Option(help="Negative sampling, hierarchical softmax or sampled softmax."),
    ] = "negative",
    window: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most words on either side that count as around.")
    ] = 5,
    negatives: Annotated[int, typer.Option(metavar="N", min=1, help="Words to draw for each word.")] = 5,
    min_count: Annotated[int, typer.Option(metavar="N", min=1, help="Leave out words that occur less often.")] = 5,
    subsample: Annotated[
        float,
        typer.Option(
            metavar="X", min=0, help="Leave out some of the words that are a greater share of the text; 0: none."
        ),
    ] = 1e-3,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="How often to go through the text.")] = 5,
    phrases: Annotated[
        int,
        typer.Option(min=0, metavar="PASSES", help="Join words to phrases first, each time up to twice as long."),
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="CPU threads of the numba engine.", show_default="as many as there are cores"
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Seed of what is drawn: on a CPU with one thread, the same one gives the same vectors.",
        ),
    ] = 1,
    engine: Annotated[
        Literal["numba", "torch"], typer.Option(help="numba for the CPU; torch, in large batches, for a GPU.")
    ] = "numba",
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where the torch engine computes: cpu, cuda.")
    ] = "cpu",
    overwrite: OverwriteFile = False,
) -> None:
    """Learn vectors of the words of a text, by word2vec."""
    from asr.cli.reporter import TerminalReporter
    from asr.text import vector_files, word2vec

    vector_files.check_name(out)
    check_outputs([out], overwrite, made_from=texts)
    reporter = TerminalReporter()
    with announced("loading word2vec; the first time, compiling it takes half a minute …", reporter):
        word2vec.warm(engine)
    with reporter.progress("train", 100) as advance:
        vectors = word2vec.train(
            read_sentences(texts, model=None),
            dim=dim,
            architecture=architecture,
            objective=objective,
            window=window,
            negatives=negatives,
            min_count=min_count,
            subsample=subsample,
            epochs=epochs,
            phrase_passes=phrases,
            threads=threads,
            seed=seed,
            engine=engine,
            device=device,
            on_progress=lambda done, total: advance(100 * done // total, f"{done:,} of {total:,} words"),
        )
    vector_files.save(vectors, out)
    reporter.say(f"wrote {out}: {len(vectors.words):,} words, {dim} numbers each")


@app.command(
    short_help="Print the words nearest to a word.",
    epilog="\nExample:\n\n  asr embed neighbours news.bin king --count 5",
)
def neighbours(
    vectors: Vectors, word: Annotated[str, typer.Argument(metavar="WORD", help="The word.")], count: Count = 10
) -> None:
    """Print the words that are nearest to a word, with the cosines of the angles between them."""
    _print(_load(vectors).neighbours(word, count))


@app.command(
    short_help="Print what is to one word as another is to a third.",
    epilog="\nExample:\n\n  asr embed analogy news.bin man king woman",
)
def analogy(
    vectors: Vectors,
    a: Annotated[str, typer.Argument(metavar="A", help="A word, such as man.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, such as king.")],
    c: Annotated[str, typer.Argument(metavar="C", help="A third one, such as woman.")],
    count: Count = 10,
    method: AnalogyMethod = "add",
) -> None:
    """Print the words that are to C as B is to A, the best ones first, with their scores."""
    _print(_load(vectors).analogy(a, b, c, count, method))


@app.command(
    short_help="Print how alike two words are.",
    epilog="\nExample:\n\n  asr embed similarity news.bin king queen",
)
def similarity(
    vectors: Vectors,
    a: Annotated[str, typer.Argument(metavar="A", help="A word.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Print the cosine of the angle between the vectors of two words."""
    typer.echo(f"{_load(vectors).similarity(a, b):.4f}")


@app.command(
    short_help="Compare vectors with people's judgement.",
    epilog="\nExample:\n\n  asr embed evaluate news.bin wordsim353.tsv questions-words.txt",
)
def evaluate(
    vectors: Vectors,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Rated pairs (WordSim-353, SimLex-999), or analogies in sections (questions-words.txt).",
        ),
    ],
    method: AnalogyMethod = "add",
) -> None:
    """Measure how well vectors agree with ratings of word pairs, and how many analogies they get right.

    The order of the ratings is compared with that of the cosines (Spearman's rank correlation). Pairs and
    questions with a word that has no vector are left out, and their number is told.
    """
    from asr.text import vector_evaluation as evaluation

    kinds = [evaluation.holds_analogies(file) for file in files]
    loaded = _load(vectors)
    for file, has_analogies in zip(files, kinds, strict=True):
        typer.echo(file)
        if has_analogies:
            _print_sections(evaluation.answer(loaded, file, method))
        else:
            agreement = evaluation.rate(loaded, file)
            typer.echo(f"  Spearman  {_shown(agreement.correlation, '.4f')}")
            typer.echo(f"  pairs     {agreement.covered:,} of {agreement.pairs:,}")


@app.command(
    short_help="Draw words on a plane.",
    epilog="\nExamples:\n\n  asr embed plot news.bin --out news.html\n\n"
    "  asr embed plot news.bin --words animals.txt --out animals.png",
)
def plot(
    vectors: Vectors,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Picture to make: .html to zoom into with a browser, or, with the extra plot, .png.",
        ),
    ],
    words: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Words to draw, separated by white space.", show_default="the first ones"
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=3, help="Draw at most this many words.", show_default=f"{DRAWN}, or all in --words"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the arrangement.")] = 0,
    overwrite: OverwriteFile = False,
) -> None:
    """Draw words on a plane, those that are alike near to each other (t-SNE)."""
    from asr.cli.reporter import TerminalReporter
    from asr.text import vector_plot

    pictures.check_name(out)
    check_outputs([out], overwrite)
    wanted = None if words is None else _words_in(words)
    loaded = _load(vectors)
    chosen = loaded.words[: count or DRAWN] if wanted is None else _known(wanted, loaded)[:count]
    vector_plot.plot(loaded.only(chosen), out, seed)
    TerminalReporter().say(f"wrote {out}: {len(chosen):,} words")


def _load(path: Path) -> WordVectors:
    from asr.cli.reporter import TerminalReporter
    from asr.text import vector_files

    with announced("reading the vectors …", TerminalReporter()):
        return vector_files.load(path)


def _words_in(path: Path) -> list[str]:
    from asr.text import sentences

    words = list(dict.fromkeys(word for line in sentences.read([path]) for word in line.split()))
    if not words:
        raise DataError("there are no words", where=path)
    return words


def _known(words: Sequence[str], vectors: WordVectors) -> list[str]:
    """The words that have vectors; says which have none."""
    from asr.cli.reporter import TerminalReporter

    unknown = [word for word in words if word not in vectors]
    if unknown:
        TerminalReporter().warn(f"these have no vectors: {some(unknown, most=10)}")
    return [word for word in words if word in vectors]


def _print(neighbours: Iterable[Neighbour]) -> None:
    for neighbour in neighbours:
        typer.echo(f"{neighbour.score:.4f}\t{neighbour.word}")


def _print_sections(sections: Sequence[Section]) -> None:
    """Print how many analogies are right, by section, kind, and all together.

    By the convention of questions-words.txt, sections of grammar are named gram….
    """
    from asr.text.vector_evaluation import total

    grammar = [section for section in sections if section.name.startswith("gram")]
    meaning = [section for section in sections if not section.name.startswith("gram")]
    sums = [total("meaning", meaning), total("grammar", grammar)] if grammar and meaning else []
    rows = [*sections, *sums, total("all", sections)]
    width = max(len(row.name) for row in rows)
    for row in rows:
        unknown = f", {row.unknown:,} with words that have no vectors" if row.unknown else ""
        share = _shown(100 * row.accuracy, ".2f")
        typer.echo(f"  {row.name:{width}}  {share:>6} %  ({row.correct:,} of {row.questions:,}{unknown})")


def _shown(value: float, pattern: str) -> str:
    return "–" if math.isnan(value) else format(value, pattern)
