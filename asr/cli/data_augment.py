"""`asr data augment`: what training makes of a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.inputs import OverwriteFiles, check_outputs
from asr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asr.augment import Applied, Masks
    from asr.config import Recipe
    from asr.features import FeatureExtractor

EPILOG = """
Examples:

  asr data augment memo.wav --recipe quickstart --out heard

  asr data augment memo.wav --recipe my/recipe.yaml --out rooms --only reverb augment.reverb.kind=image
"""


def augment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, of any format.")],
    recipe: Annotated[str, typer.Option(metavar="PATH_OR_NAME", help="Recipe whose section `augment` is used.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write WAV files.", file_okay=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Settings in place of the recipe's, such as augment.reverb.kind=image.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many to write.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of what is drawn.")] = 1,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="STEP",
            help="Do only this, each time: silence, speed, pitch, tempo, reverb, noise, gain_db, telephone, codec.",
        ),
    ] = None,
    overwrite: OverwriteFiles = False,
) -> None:
    """Write what training hears of a recording, and say what was done to it.

    Masks of SpecAugment can't be heard: they are only told. Utterances are not joined here.
    """
    paths = [out / f"{file.stem}-{number}.wav" for number in range(1, count + 1)]
    check_outputs(paths, overwrite)
    resolved = _read_recipe(recipe, settings or (), only)
    import numpy as np

    from asr import audio, build
    from asr.effects.level import within_peak

    rate = resolved.features.sample_rate
    waveform = audio.load(file, rate)
    silences = build.silences(resolved.augment)
    augmenter = build.augmenter(resolved.augment, rate)
    masking = build.spec_augment(resolved.augment)
    if only is not None:
        silences = replace(silences, probability=1.0) if silences and only == "silence" else None
        augmenter, masking = augmenter.only(only), None
    extractor = build.features(resolved.features)
    for number, path in enumerate(paths, start=1):
        rng = np.random.default_rng((seed, number))
        heard, applied = waveform, []
        if silences is not None and (silence := silences.draw(rng.spawn(1)[0])) is not None:
            heard = silence.around(waveform, rate)
            applied.append(silence.applied)
        heard, changes = augmenter.trace(heard, rng)
        audio.save(path, within_peak(heard), rate)
        told = [_told(step) for step in applied + changes]
        if masking is not None:
            masks = masking.plan(extractor.num_frames(len(heard)), extractor.dim, rng)
            told.extend(_masked(masks, extractor))
        typer.echo(f"{path}  {len(heard) / rate:.2f} s  {', '.join(told) or 'unchanged'}")


def _read_recipe(recipe: str, settings: Sequence[str], only: str | None) -> Recipe:
    """The recipe, in which the only step is switched on if it is not."""
    from asr import catalogue, recipe_file

    path = catalogue.resolve(recipe)
    resolved = recipe_file.read_recipe(path, settings)
    if only is None:
        return resolved
    from asr.build import AUGMENTATIONS

    steps = ("silence", *AUGMENTATIONS)
    if only not in steps:
        raise ConfigError("no such step", where=f"--only {only}", expected=", ".join(steps))
    if getattr(resolved.augment, only) is not None:
        return resolved
    return recipe_file.read_recipe(path, [*settings, f"augment.{only}={{}}"])


def _told(applied: Applied) -> str:
    """A step, and what it drew."""
    values = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in applied.drawn.values())
    drawn = ", ".join(map(" ".join, zip(applied.drawn, values, strict=True)))
    return f"{applied.step} ({drawn})"


def _masked(masks: Masks, extractor: FeatureExtractor) -> Iterator[str]:
    """The masks of features, in seconds and in bins."""
    shift = extractor.frame_shift
    for start, width in sorted(masks.time):
        if width:
            yield f"masked {start * shift:.2f}–{(start + width) * shift:.2f} s"
    for start, width in sorted(masks.freq):
        if width:
            bins = f"bin {start}" if width == 1 else f"bins {start} to {start + width - 1}"
            yield f"masked {bins}"
