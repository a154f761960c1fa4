"""Writing pictures: images (.png) by Matplotlib, an extra, or pages (.html) that need nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import ConfigError, MissingDependencyError
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
                hint="pip install 'asr[plot]', or a name that ends in .html",
            ) from error


def images_possible() -> bool:
    """Whether Matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save(figure: Figure, path: Path) -> None:
    """Write a figure as an image, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
