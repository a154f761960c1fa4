"""Writing pictures: images (.png) by Matplotlib, an extra, or pages (.html) that need nothing else."""

from __future__ import annotations

import html
import importlib.util
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from asr.errors import ConfigError, MissingDependencyError, how_to_install
from asr.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".html")


def check_name(path: Path) -> None:
    """Refuse a file that could not be written.

    Raises:
        ConfigError: the name does not end in .png or .html.
        MissingDependencyError: it ends in .png, and Matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError("no kind of picture", where=path, expected="a name that ends in .png or .html")
    if path.suffix == ".png":
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "Matplotlib, which draws images, is not installed",
                where=path,
                hint=f"{how_to_install('plot')}, or a name that ends in .html",
            ) from error


def images_possible() -> bool:
    """Whether Matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save(figure: Figure, path: Path) -> None:
    """Write a figure as an image, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def page(title: str, style: str, body: str) -> str:
    """A page in HTML, complete in itself, in dark or light as its reader has it.

    Args:
        title: of the page, and its first heading; plain text.
        style: CSS besides that of all pages, with their colours: --ink, --paper, --grid, --box, and --c0 to --c7
            for curves.
        body: HTML, below the heading.
    """
    return _PAGE.substitute(title=html.escape(title), style=style.strip(), body=body.strip())


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #ffffff; --grid: #dddddd; --box: #f4f4f4;
  --c0: #1f6fb4; --c1: #d1570b; --c2: #2b8a3e; --c3: #b3261e;
  --c4: #7a4fb5; --c5: #7d5a4c; --c6: #c2397f; --c7: #0b7f86; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #161616; --grid: #3a3a3a; --box: #222222;
    --c0: #6cb2f0; --c1: #ff9d5c; --c2: #6fcf83; --c3: #ff8a80;
    --c4: #bfa0f2; --c5: #c8a798; --c6: #f48fc0; --c7: #5fd0d6; }
}
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; font: 16px/1.45 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
figure { margin: 0; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
text { font-size: 12px; fill: var(--ink); }
path { fill: none; }
.grid { stroke: var(--grid); }
table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; border-bottom: 1px solid var(--grid); text-align: right; }
$style
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
