"""Pictures of word vectors: words that are alike stand together."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from asr import pictures
from asr.errors import ConfigError
from asr.files import write_text
from asr.text.vectors import WordVectors

_FEWEST = 3
_PERPLEXITY = 30.0  # van der Maaten & Hinton's is 5 to 50
_HTML_SIZE = 1000  # units of the drawing, across
_MARGIN = 0.05  # of the drawing


def plot(vectors: WordVectors, path: str | Path, seed: int = 0) -> None:
    """Draw all words on a plane, as an image (.png) or a page that can be zoomed, without any network (.html).

    Args:
        vectors: the words to draw, some hundreds at most if they are to be read; `WordVectors.only` chooses.
        path: of the file to make.
        seed: of the arrangement, which is one of many that are as good.

    Raises:
        ConfigError: the name ends otherwise, or there are fewer than three words.
        MissingDependencyError: an image is wanted, and Matplotlib is not installed.
    """
    path = Path(path)
    pictures.check_name(path)
    if len(vectors.words) < _FEWEST:
        raise ConfigError(f"{len(vectors.words)} words", where=path, expected=f"at least {_FEWEST} to draw")
    positions = project(vectors, seed)
    if path.suffix == ".png":
        _draw_image(vectors.words, positions, path)
    else:
        write_text(path, page(vectors.words, positions, path.stem))


def project(vectors: WordVectors, seed: int = 0) -> NDArray[np.float64]:
    """Arrange words on a plane so that neighbours stay neighbours, by t-SNE.

    Distances are those between vectors of length 1; their squares, which t-SNE uses, are 2 - 2 cosine (van der
    Maaten & Hinton 2008, "Visualizing data using t-SNE").

    Args:
        vectors: three words or more.
        seed: of the arrangement.

    Returns:
        (words, 2), from 0 to 1 along the longer side.
    """
    from sklearn.manifold import TSNE

    lengths = np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    units = vectors.vectors / np.where(lengths > 0, lengths, 1)
    perplexity = min(_PERPLEXITY, (len(units) - 1) / 3)
    init = "pca" if units.shape[1] > 1 and np.ptp(units, axis=0).any() else "random"
    positions = TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(units)
    low, high = positions.min(axis=0), positions.max(axis=0)
    scaled: NDArray[np.float64] = (positions - low) / max(float((high - low).max()), 1e-9)
    return scaled


def _draw_image(words: Sequence[str], positions: NDArray[np.float64], path: Path) -> None:
    from matplotlib.figure import Figure

    side = max(6.0, 0.8 * math.sqrt(len(words)))  # inches, so that many words have room
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.scatter(positions[:, 0], positions[:, 1], s=6)
    for word, position in zip(words, positions, strict=True):
        axes.annotate(word, position, xytext=(2, 2), textcoords="offset points", fontsize=8, parse_math=False)
    pictures.save(figure, path)


def page(words: Sequence[str], positions: NDArray[np.float64], title: str) -> str:
    """A page in HTML, complete in itself: the wheel zooms, dragging moves, a double click shows everything again.

    Args:
        words: the labels.
        positions: (words, 2), from 0 to 1.
        title: of the page.
    """
    x, y = (_MARGIN + (1 - 2 * _MARGIN) * positions.T) * _HTML_SIZE
    labels = "\n".join(
        f'<path d="M{right:.1f} {down:.1f}h0"/><text x="{right:.1f}" y="{down:.1f}">{html.escape(word)}</text>'
        for word, right, down in zip(words, x.tolist(), (_HTML_SIZE - y).tolist(), strict=True)
    )
    return _PAGE.substitute(title=html.escape(title), size=_HTML_SIZE, labels=labels)


_PAGE = Template("""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
html, body { margin: 0; height: 100%; background: white; }
svg { width: 100%; height: 100%; cursor: grab; touch-action: none; user-select: none; }
text { font-family: sans-serif; fill: black; }
path { stroke: steelblue; stroke-width: 5px; stroke-linecap: round; vector-effect: non-scaling-stroke; }
</style>
</head>
<body>
<svg viewBox="0 0 $size $size">
$labels
</svg>
<script>
const svg = document.querySelector("svg");
const whole = {x: 0, y: 0, side: $size};
let view = {...whole};

// Units of the drawing to a pixel. Words keep their size on the screen, so that zooming parts them.
const unit = () => 1 / svg.getScreenCTM().a;

function show() {
  svg.setAttribute("viewBox", [view.x, view.y, view.side, view.side].join(" "));
  svg.style.fontSize = 12 * unit() + "px";
}

function place(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

svg.addEventListener("wheel", event => {
  event.preventDefault();
  const factor = Math.exp(0.002 * event.deltaY), fixed = place(event);
  view = {
    x: fixed.x + (view.x - fixed.x) * factor,
    y: fixed.y + (view.y - fixed.y) * factor,
    side: view.side * factor,
  };
  show();
}, {passive: false});

svg.addEventListener("pointermove", event => {
  if (event.buttons !== 1) return;
  view.x -= event.movementX * unit();
  view.y -= event.movementY * unit();
  show();
});

svg.addEventListener("dblclick", () => { view = {...whole}; show(); });
window.addEventListener("resize", show);
show();
</script>
</body>
</html>
""")
