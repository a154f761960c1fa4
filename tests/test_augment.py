"""Augmentation: levels, noise, masks, and the chain of steps, measured on what comes out."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from headerless import write_mp3_without_length
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, decibels, generator, tone

from asr import audio, build
from asr.augment import DecayingNoise, Masks, Silence, SpecAugment, WaveformAugmenter
from asr.config import Augment
from asr.effects.level import apply_gain, speech_power
from asr.effects.noise import add_noise, coloured_noise, fit_length
from asr.effects.rooms import draw_room, image_response, reverberate
from asr.errors import AudioError, DataError

SEEDS = st.integers(0, 2**32 - 1)


def augmenter(rate: int = RATE, **sections: object) -> WaveformAugmenter:
    return build.augmenter(Augment.model_validate(sections), rate)


# --------------------------------------------------------------------------------------------------- silence


@given(before=st.floats(0.2, 1.5), after=st.floats(0.2, 1.5), below_db=st.floats(0, 90), seed=SEEDS)
def test_silence_is_as_long_and_as_quiet_as_told(before: float, after: float, below_db: float, seed: int) -> None:
    speech = tone(300.0)
    heard = Silence(before, after, below_db, seed).around(speech, RATE)
    first, last = round(before * RATE), round(before * RATE) + len(speech)
    np.testing.assert_array_equal(heard[first:last], speech)
    assert heard.dtype == np.float32
    assert len(heard) - last == round(after * RATE)
    quiet = decibels(np.concatenate([heard[:first], heard[last:]]))
    assert decibels(speech) - quiet == pytest.approx(below_db, abs=1.5)  # it is cut from noise a little longer


def test_silence_may_be_nothing_or_around_nothing() -> None:
    np.testing.assert_array_equal(Silence(0, 0, 30, 1).around(tone(300.0), RATE), tone(300.0))
    assert not Silence(0.1, 0.1, 30, 1).around(np.zeros(100, np.float32), RATE).any()
    alone = Silence(1.1, 0.2, 30, 1).around(np.zeros(0, np.float32), RATE)
    assert len(alone) == round(1.3 * RATE)
    assert decibels(alone) == pytest.approx(-56, abs=1)


def test_silence_is_drawn_as_often_and_as_much_as_told() -> None:
    silences = build.silences(Augment(silence={"probability": 0.3, "seconds": [0.2, 2], "below_db": [25, 60]}))
    rng = generator()
    drawn = [silence for _ in range(3000) if (silence := silences.draw(rng))]
    assert 800 < len(drawn) < 1000
    for values, low, high in (
        ([silence.before for silence in drawn], 0.2, 2),
        ([silence.after for silence in drawn], 0.2, 2),
        ([silence.below_db for silence in drawn], 25, 60),
    ):
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) <= high
    assert len({silence.seed for silence in drawn}) == len(drawn)
    assert build.silences(Augment()) is None


# ------------------------------------------------------------------------------------- ------- gain and noise


@given(gain_db=st.floats(-40, 40))
def test_gain_is_in_decibels(gain_db: float) -> None:
    assert decibels(apply_gain(tone(300.0), gain_db)) - decibels(tone(300.0)) == pytest.approx(gain_db, abs=1e-3)


@given(snr_db=st.floats(-10, 40), level=st.floats(1e-3, 10), seed=SEEDS)
def test_noise_is_added_at_its_ratio(snr_db: float, level: float, seed: int) -> None:
    speech = tone(300.0, 8000)
    noise = (level * generator(seed).standard_normal(8000)).astype(np.float32)
    noisy = add_noise(speech, noise, snr_db)
    assert noisy.dtype == np.float32
    added = noisy - speech
    assert decibels(speech) - decibels(added) == pytest.approx(snr_db, abs=0.1)
    assert np.corrcoef(added, noise)[0, 1] > 0.999


def test_silence_has_no_ratio() -> None:
    silence, noise = np.zeros(100, np.float32), np.ones(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, noise, 10.0), silence)
    np.testing.assert_array_equal(add_noise(noise, silence, 10.0), noise)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
def test_noise_has_its_colour(exponent: float) -> None:
    noise = coloured_noise(2**17, exponent, RATE, generator())
    frequencies, power = scipy.signal.welch(noise, fs=RATE, nperseg=4096)
    band = (frequencies > 80) & (frequencies < 0.4 * RATE)
    slope, _ = np.polyfit(np.log(frequencies[band]), np.log(power[band]), 1)
    assert slope == pytest.approx(-exponent, abs=0.06)
    assert decibels(noise) == pytest.approx(0.0, abs=0.1)
    assert noise.dtype == np.float32


@pytest.mark.parametrize("seconds", [1, 30])
@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_generated_noise_is_as_loud_as_told_where_speech_is(exponent: int, seconds: int) -> None:
    augment = augmenter(noise={"probability": 1, "snr_db": [5, 5], "colour": [exponent, exponent]})
    speech = 0.1 * tone(300.0, seconds * RATE)
    spectrum = np.fft.rfft(augment(speech, generator()) - speech)
    spectrum[np.fft.rfftfreq(len(speech), 1 / RATE) < 60] = 0.0
    assert decibels(speech) - decibels(np.fft.irfft(spectrum, len(speech))) == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 47_981])
def test_noise_has_any_length(samples: int) -> None:
    noise = coloured_noise(samples, 1.0, RATE, generator())
    assert noise.shape == (samples,)
    assert np.isfinite(noise).all()


@given(recorded=st.integers(1, 50), samples=st.integers(0, 120), seed=SEEDS)
def test_recorded_noise_is_cropped_or_repeated(recorded: int, samples: int, seed: int) -> None:
    noise = np.arange(recorded, dtype=np.float32)
    stretch = fit_length(noise, samples, generator(seed))
    assert len(stretch) == samples
    if samples > 1:
        steps = np.diff(stretch)
        whole = samples <= recorded
        assert set(steps.tolist()) <= ({1.0} if whole else {1.0, float(1 - recorded)})


def test_every_part_of_recorded_noise_is_used() -> None:
    rng = generator()
    starts = {int(fit_length(np.arange(10, dtype=np.float32), 7, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3}
    assert len({int(fit_length(np.arange(5, dtype=np.float32), 7, rng)[0]) for _ in range(200)}) == 5


@given(pause=st.floats(0, 3), level=st.floats(1e-3, 1))
def test_the_power_of_speech_leaves_pauses_out(pause: float, level: float) -> None:
    speech = level * generator().standard_normal(RATE).astype(np.float32)
    hiss = 1e-3 * level * generator(1).standard_normal(round(pause * RATE)).astype(np.float32)
    found = speech_power(np.concatenate((hiss, speech, hiss)), RATE)
    assert 10 * np.log10(found) == pytest.approx(decibels(speech), abs=0.3)
    assert speech_power(speech[:100], RATE) == pytest.approx(np.mean(np.square(speech[:100])))
    assert speech_power(np.zeros(RATE, np.float32), RATE) == 0.0


# ------------------------------------------------------------------------------------------- the whole chain

STEPS = {
    "speed": {"factors": [0.9, 1.0, 1.1], "probability": 0.6},
    "pitch": {},
    "tempo": {"factor": [0.8, 1.2]},
    "reverb": {"kind": "image", "probability": 0.6, "rooms": 3, "rt60_seconds": [0.05, 0.1]},
    "noise": {},
    "gain_db": {"low": -6, "high": 20, "probability": 0.8},
    "telephone": {},
    "codec": {"probability": 0.3},
}


@settings(max_examples=60)
@given(
    seed=SEEDS,
    samples=st.sampled_from([0, 1, 7, 160, 399, 4000]),
    level=st.sampled_from([0.0, 1e-4, 0.3, 1.0]),
    rate=st.sampled_from([8000, 16000, 48000]),
)
def test_augmentation_is_reproducible_and_within_full_scale(
    seed: int, samples: int, level: float, rate: int
) -> None:
    everything = augmenter(rate, **STEPS)
    speech = (level * np.clip(generator(1).standard_normal(samples), -1, 1)).astype(np.float32)
    kept = speech.copy()
    augmented, applied = everything.trace(speech, generator(seed))
    np.testing.assert_array_equal(augmented, everything(speech, generator(seed)))
    np.testing.assert_array_equal(speech, kept)
    assert augmented.dtype == np.float32
    assert np.isfinite(augmented).all()
    assert np.abs(augmented).max(initial=0.0) <= 1.0
    drawn = {step.step: step.drawn for step in applied}
    factors = [float(drawn[name]["factor"]) for name in ("speed", "tempo") if name in drawn]
    assert len(augmented) == pytest.approx(samples / np.prod(factors), abs=1.2)


@pytest.mark.parametrize("peak", [0.5, 1.0, 1.5, 8000.0])
def test_what_was_beyond_full_scale_before_keeps_its_level(peak: float) -> None:
    """As dev and test sets do, and what statistics of features are measured on."""
    speech = (peak * tone(300.0, 400)).astype(np.float32)
    speech *= np.float32(peak) / np.abs(speech).max()
    np.testing.assert_array_equal(augmenter(8000)(speech, generator()), speech)
    louder = augmenter(8000, gain_db=[40, 40])(speech, generator())
    assert np.abs(louder).max() == pytest.approx(max(peak, 1.0))


def test_steps_say_what_they_do_and_come_in_the_order_of_the_recipe() -> None:
    rng, seen = generator(), []
    everything = augmenter(8000, **{name: section | {"probability": 0.7} for name, section in STEPS.items()})
    for _ in range(40):
        names = [step.step for step in everything.trace(tone(300.0, 400), rng)[1]]
        assert names == [name for name in STEPS if name in names]
        seen += names
    assert set(seen) == set(STEPS)
    assert len(seen) == pytest.approx(40 * len(STEPS) * 0.7, abs=40)


@given(seed=SEEDS, left_out=st.sampled_from(sorted(set(STEPS) - {"codec"})))
@settings(max_examples=15)
def test_a_step_more_or_less_changes_nothing_that_others_draw(seed: int, left_out: str) -> None:
    fewer = {name: section for name, section in STEPS.items() if name != left_out}
    rngs = generator(seed), generator(seed)
    speech = tone(300.0, 800)
    whole, part = (
        augmenter(8000, **steps).trace(speech, rng)[1] for steps, rng in zip((STEPS, fewer), rngs, strict=True)
    )
    assert [step for step in whole if step.step != left_out] == part
    assert rngs[0].random() == rngs[1].random()  # nor what comes after


def test_one_step_alone_always_happens_and_draws_the_same() -> None:
    everything = augmenter(8000, **STEPS)
    for seed in range(20):
        [alone] = everything.only("noise").trace(tone(300.0, 800), generator(seed))[1]
        assert alone.step == "noise"
        among = [step for step in everything.trace(tone(300.0, 800), generator(seed))[1] if step.step == "noise"]
        assert among in ([], [alone])


def test_loud_results_are_scaled_not_clipped() -> None:
    louder = augmenter(gain_db=[20, 20])(tone(300.0), generator())
    np.testing.assert_allclose(louder, tone(300.0) / np.abs(tone(300.0)).max(), atol=1e-6)


def test_each_step_is_drawn_as_often_as_told() -> None:
    speech = tone(300.0, 800)
    rng = generator()
    np.testing.assert_array_equal(augmenter()(speech, rng), speech)
    for section in ({"noise": {"probability": 0.3}}, {"gain_db": {"probability": 0.3}}):
        sometimes = augmenter(**section)
        changed = sum(not np.array_equal(sometimes(speech, rng), speech) for _ in range(1000))
        assert changed == pytest.approx(300, abs=60)
    lengths = [len(augmenter(speed=[0.8, 1.25])(speech, rng)) for _ in range(400)]
    assert lengths.count(1000) == pytest.approx(200, abs=50)
    assert lengths.count(640) == 400 - lengths.count(1000)


def test_draws_are_spread_over_their_ranges() -> None:
    rng = generator()
    ranges = {"pitch": ("semitones", -3, 1), "tempo": ("factor", 0.9, 1.2), "gain_db": ("db", -9, 3)}
    keys = {"pitch": "semitones", "tempo": "factor"}
    chain = augmenter(
        8000,
        **{
            name: {"probability": 1, **({keys[name]: [low, high]} if name in keys else {"low": low, "high": high})}
            for name, (_, low, high) in ranges.items()
        },
    )
    drawn = [chain.trace(tone(300.0, 80), rng)[1] for _ in range(300)]
    semitones, factors = (
        [float(steps[place].drawn[keys[name]]) for steps in drawn] for place, name in enumerate(keys)
    )
    assert abs(np.corrcoef(semitones, factors)[0, 1]) < 0.2  # each step has chance of its own
    for place, (key, low, high) in enumerate(ranges.values()):
        values = np.array([float(steps[place].drawn[key]) for steps in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))


def test_augmenters_travel_to_worker_processes() -> None:
    everything = augmenter(**STEPS)
    travelled = pickle.loads(pickle.dumps(everything))
    np.testing.assert_array_equal(travelled(tone(300.0), generator(5)), everything(tone(300.0), generator(5)))


def test_recipes_from_before_mean_the_same() -> None:
    early = {"speed": [0.9], "gain_db": {"low": 3, "high": 3}, "noise": {"snr_db": [10, 30]}, "reverb": {}}
    steps = augmenter(8000, **early).steps
    assert [(step.name, step.probability) for step in steps] == [
        ("speed", 1.0),
        ("reverb", 0.3),
        ("noise", 0.5),
        ("gain_db", 1.0),
    ]
    assert type(steps[1].change) is DecayingNoise
    assert augmenter(8000, gain_db=[3, 3]).steps == steps[3:]
    speech = tone(300.0, 900)
    assert len(augmenter(8000, speed=[0.9])(speech, generator())) == 1000
    np.testing.assert_array_equal(augmenter(8000, speed=[])(speech, generator()), speech)  # as saved models have it


# --------------------------------------------------------------------------------- recordings of noise and rooms


def test_noise_ratio_and_recordings_reach_the_result(tmp_path: Path) -> None:
    audio.save(tmp_path / "hum.wav", tone(1000.0, 2 * RATE), RATE)
    augment = augmenter(noise={"probability": 1, "snr_db": [12, 12], "folder": tmp_path})
    speech = 0.3 * tone(300.0)
    noisy, [applied] = augment.trace(speech, generator())
    assert decibels(speech) - decibels(noisy - speech) == pytest.approx(12.0, abs=0.1)
    assert np.abs(np.fft.rfft(noisy - speech)).argmax() == 1000
    assert applied.drawn == {"snr_db": 12.0, "file": "hum.wav"}


def test_the_ratio_may_be_that_of_speech_without_pauses() -> None:
    speech = np.concatenate((0.3 * tone(300.0), np.zeros(3 * RATE, np.float32)))
    for measured, expected in (("utterance", 12.0), ("speech", 12.0 - 10 * np.log10(4))):
        noise = (
            augmenter(noise={"probability": 1, "snr_db": [12, 12], "snr_of": measured})(speech, generator())
            - speech
        )
        assert decibels(speech) - decibels(noise) == pytest.approx(expected, abs=0.1)


def test_every_part_of_a_long_recording_is_heard(tmp_path: Path) -> None:
    """A chirp whose frequency tells the time: what is heard is a part of it, whose place differs."""
    seconds = 20
    times = np.arange(seconds * RATE) / RATE
    audio.save(tmp_path / "chirp.flac", scipy.signal.chirp(times, 200, seconds, 6200).astype(np.float32), RATE)
    augment = augmenter(noise={"probability": 1, "snr_db": [0, 0], "folder": tmp_path})
    speech = 0.1 * generator().standard_normal(RATE // 2).astype(np.float32)
    starts = []
    for seed in range(60):
        part = augment(speech, generator(seed)) - speech
        power = np.square(np.abs(np.fft.rfft(part)))
        centre = np.sum(power * np.fft.rfftfreq(len(part), 1 / RATE)) / np.sum(power)
        starts.append((centre - 200) / 300 - 0.25)
    assert min(starts) > -0.1
    assert max(starts) < 19.6
    assert max(later - earlier for earlier, later in pairwise(sorted([0.0, *starts, 19.5]))) < 3


def test_recordings_at_other_rates_and_shorter_ones_will_do(tmp_path: Path) -> None:
    short = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(4800) / 48000)).astype(np.float32)  # a tenth of a second
    audio.save(tmp_path / "beep.wav", short, 48000)
    augment = augmenter(noise={"probability": 1, "snr_db": [6, 6], "folder": tmp_path})
    speech = 0.1 * generator().standard_normal(RATE).astype(np.float32)
    added = augment(speech, generator()) - speech
    assert decibels(speech) - decibels(added) == pytest.approx(6.0, abs=0.1)
    assert np.abs(np.fft.rfft(added)).argmax() == pytest.approx(1000, abs=10)


def test_babble_is_many_recordings_at_once(tmp_path: Path) -> None:
    for index, hertz in enumerate((500, 900, 1300, 1700)):
        audio.save(tmp_path / f"{hertz}.wav", (0.1 + 0.2 * index) * tone(hertz), RATE)
    augment = augmenter(noise={"probability": 1, "snr_db": [0, 0], "folder": tmp_path, "at_once": [3, 3]})
    speech = 0.1 * generator(1).standard_normal(RATE).astype(np.float32)
    counts = set()
    for seed in range(20):
        noisy, [applied] = augment.trace(speech, generator(seed))
        names = str(applied.drawn["file"]).split(", ")
        assert len(names) == 3
        heard = np.abs(np.fft.rfft(noisy - speech))
        present = {hertz for hertz in (500, 900, 1300, 1700) if heard[hertz] > 0.05 * heard.max()}
        assert present == {int(Path(name).stem) for name in names}
        if len(present) == 3:  # all are equally loud, however they were recorded
            assert min(heard[hertz] for hertz in present) > 0.95 * heard.max()
        counts.add(len(present))
    assert 3 in counts


def test_recorded_rooms(tmp_path: Path) -> None:
    response = image_response(draw_room(0.2, generator()), RATE)
    scaled = 0.5 * response.samples
    audio.save(tmp_path / "room.wav", np.concatenate((np.zeros(500, np.float32), scaled)), RATE)
    augment = augmenter(reverb={"probability": 1, "folder": tmp_path})
    speech = 0.1 * generator().standard_normal(RATE).astype(np.float32)
    heard, [applied] = augment.trace(speech, generator())
    expected = reverberate(speech, response)
    assert decibels(heard - expected) < decibels(expected) - 40  # 16 bits
    assert applied.drawn == {"file": "room.wav"}


def test_a_room_is_heard_by_one_microphone_of_an_array(tmp_path: Path) -> None:
    late = round(0.0005 * RATE)  # 17 cm apart, so what lies between them at 1 kHz is silent in their mean
    room = np.zeros((2000, 2), np.float32)
    room[100, 0] = room[100 + late, 1] = 0.5
    soundfile.write(tmp_path / "array.wav", room, RATE, subtype="FLOAT")
    speech = 0.1 * generator().standard_normal(RATE).astype(np.float32)
    heard = augmenter(reverb={"probability": 1, "folder": tmp_path})(speech, generator())
    assert np.corrcoef(heard, speech)[0, 1] > 0.99


def test_folders_are_looked_through_before_training(tmp_path: Path) -> None:
    for section in ("noise", "reverb"):
        with pytest.raises(DataError, match="there is no such folder"):
            augmenter(**{section: {"folder": tmp_path / "nowhere"}})
        with pytest.raises(DataError, match="no recordings here"):
            augmenter(**{section: {"folder": tmp_path}})
    (tmp_path / "bad.wav").write_bytes(b"RIFF\0\0\0\0 and no more")
    (tmp_path / "worse.flac").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not audio")
    audio.save(tmp_path / "good.wav", tone(300.0), RATE)
    with pytest.raises(DataError) as raised:
        augmenter(noise={"folder": tmp_path})
    assert "2 of 3 recordings can't be used" in str(raised.value)
    assert "bad.wav" in str(raised.value)
    assert "worse.flac: is empty" in str(raised.value)


def test_recordings_of_noise_are_as_long_as_they_sound(tmp_path: Path) -> None:
    half = 0.3 * generator().standard_normal(2 * RATE).astype(np.float32)
    write_mp3_without_length(tmp_path / "a.mp3", np.concatenate((np.zeros(6 * RATE, np.float32), half)), RATE)
    assert audio.read_header(tmp_path / "a.mp3").duration > 10
    augment = augmenter(noise={"probability": 1, "folder": tmp_path})
    ((_, seconds),) = augment.steps[0].change.files
    assert seconds == pytest.approx(8, abs=0.2)
    for seed in range(20):  # none of which begins after the end
        augment(tone(300.0), generator(seed))


def test_what_macos_leaves_beside_recordings_is_none(tmp_path: Path) -> None:
    audio.save(tmp_path / "hum.wav", tone(1000.0), RATE)
    (tmp_path / "._hum.wav").write_bytes(b"\0\5\x16\7" + bytes(300))
    ((path, _),) = augmenter(noise={"folder": tmp_path}).steps[0].change.files
    assert path.name == "hum.wav"


def test_a_silent_impulse_response_is_named(tmp_path: Path) -> None:
    audio.save(tmp_path / "nothing.wav", np.zeros(1000, np.float32), RATE)
    with pytest.raises(AudioError, match=r"nothing\.wav: holds nothing but silence"):
        augmenter(reverb={"probability": 1, "folder": tmp_path})(tone(300.0), generator())


# ------------------------------------------------------------------------------------------------- SpecAugment


@given(frames=st.integers(0, 300), bins=st.integers(1, 90), seed=SEEDS)
def test_masks_fit_and_keep_to_their_widths(frames: int, bins: int, seed: int) -> None:
    augment = SpecAugment(freq_masks=3, freq_width=20, time_masks=4, time_width=40, time_fraction=0.2)
    masks = augment.plan(frames, bins, generator(seed))
    assert masks == augment.plan(frames, bins, generator(seed))
    assert (len(masks.time), len(masks.freq)) == (4, 3)
    for start, width in masks.time:
        assert 0 <= width <= min(40, 0.2 * frames)
        assert 0 <= start <= frames - width
    for start, width in masks.freq:
        assert 0 <= width <= min(20, bins)
        assert 0 <= start <= bins - width


def test_widths_and_places_are_spread_evenly() -> None:
    augment = SpecAugment(freq_masks=1, freq_width=4, time_masks=1, time_width=3, time_fraction=1.0)
    rng = generator()
    masks = [augment.plan(10, 6, rng) for _ in range(3000)]
    for stretches, size, widest in (([m.time[0] for m in masks], 10, 3), ([m.freq[0] for m in masks], 6, 4)):
        widths = np.bincount([width for _, width in stretches])
        np.testing.assert_allclose(widths, 3000 / (widest + 1), rtol=0.15)
        assert {start for start, width in stretches if width == widest} == set(range(size - widest + 1))


def test_masks_are_drawn_as_often_as_told() -> None:
    always, sometimes, never = (
        build.spec_augment(Augment.model_validate({"spec_augment": section}))
        for section in ({}, {"probability": 0.3}, {"probability": 0})
    )
    assert always == SpecAugment()
    rng = generator()
    masks = [sometimes.plan(100, 40, rng) for _ in range(1000)]
    assert {(len(each.time), len(each.freq)) for each in masks} == {(2, 2), (0, 0)}
    assert sum(each != Masks((), ()) for each in masks) == pytest.approx(300, abs=60)
    assert never.plan(100, 40, rng) == Masks((), ())


def test_masks_that_are_always_there_are_those_that_a_seed_drew_before_they_had_a_probability() -> None:
    masks = SpecAugment(probability=1.0).plan(100, 40, generator())
    assert masks == Masks(time=((53, 17), (24, 10)), freq=((1, 6), (0, 1)))


def test_masked_features_are_zero_and_others_untouched() -> None:
    features = torch.rand(3, 12, 7) + 1.0
    kept = features.clone()
    masks = [
        Masks(time=((2, 3), (11, 1)), freq=((0, 1), (4, 0))),
        Masks((), ()),
        Masks(time=((0, 2), (1, 3)), freq=((5, 2),)),
    ]
    hidden = [({2, 3, 4, 11}, {0}), (set(), set()), ({0, 1, 2, 3}, {5, 6})]
    masked = SpecAugment.apply(features, masks)
    for row, (times, frequencies) in enumerate(hidden):
        for time in range(12):
            for frequency in range(7):
                expected = 0.0 if time in times or frequency in frequencies else kept[row, time, frequency]
                assert masked[row, time, frequency] == expected
    assert torch.equal(features, kept)
