"""The report of a training: complete in itself, with all its curves, and short in the terminal."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder
from tones import SETTINGS, write_recipe

from asr.axes import Axis
from asr.cli import main
from asr.errors import DataError
from asr.reporting import Silent
from asr.training import log
from asr.training.acoustic import AcousticTask
from asr.training.charts import Chart, charts
from asr.training.diagnosis import Finding, diagnose
from asr.training.loop import InterruptedTrainingError
from asr.training.report import About, events, headline, page, reported, summary, write
from asr.training.validation import DevResult

Capture = pytest.CaptureFixture[str]


def entry(epoch: int, **figures: Any) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "learning_rate": 1e-3,
        "train_loss": 4 / epoch,
        "dev_loss": 5 / epoch,
        "dev_wer": 1 / epoch,
        "dev_cer": 0.5 / epoch,
        "dev_blank_share": 0.9,
        "dev_empty_share": 0.1,
        "gradient_norm": 2.0,
        "layers": {"front": {"gradient": 0.1, "update_ratio": 1e-3}, "relu": {"dead": 0.2}},
        "seconds": 60.0,
        "seconds_waiting_for_data": 3.0,
    } | figures


class Page(HTMLParser):
    """Checks that elements are closed, and notes what a page asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.labels += [value or "" for name, value in attributes if name == "aria-label"]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_shows_all_curves() -> None:
    entries = [entry(epoch) for epoch in range(1, 6)]
    text = page(About("a <run> & more", "name: a <run>"), entries, [])
    found = Page(text)
    assert "Training of a <run> & more" in found.text
    assert "name: a <run>" in found.text
    assert "script" not in found.tags
    assert found.asked == []
    assert "url(" not in text
    assert "http" not in re.sub("<pre>.*?</pre>", "", text)
    titles = " ".join(found.labels)
    for shown in ("Loss", "Error rates", "Learning rate", "Gradient norm", "Gradient of each layer", "Update over"):
        assert shown in titles
    for shown in ("dead", "Blanks", "waiting for data"):
        assert shown in titles
    assert "training from 4 to 0.8; dev from 5 to 1" in titles
    assert "Nothing in the curves looks wrong" in found.text
    assert "prefers-color-scheme: dark" in text
    assert all(chart.meaning in found.text for chart in charts(entries))


def test_findings_stand_on_top_and_are_escaped() -> None:
    finding = Finding("over-fitting", "serious", "a < b", "x & y")
    text = page(About("run"), [entry(1)], [finding])
    assert text.index("a &lt; b") < text.index("<svg")
    assert "x &amp; y" in text
    assert 'class="serious"' in text


def test_every_recording_with_an_infinite_loss_is_listed() -> None:
    entries = [entry(1, infinite=[f"{index}&.wav" for index in range(40)], dev_infinite=["d.wav"])]
    found = Page(page(About("run"), entries, diagnose(entries, finished=True)))
    assert "41 utterances with an infinite loss" in found.text
    assert all(f"{index}&.wav" in found.text for index in range(40))


def test_points_stand_where_their_values_are() -> None:
    """Twice the way for twice the epochs; on the logarithmic scale, for the square."""
    entries = [
        {"epoch": epoch, "step": epoch, "train_loss": loss} for epoch, loss in ((1, 100.0), (2, 10.0), (3, 1.0))
    ]
    svg = ElementTree.fromstring(re.search("<svg viewBox.*?</svg>", page(About("run"), entries, []), re.DOTALL)[0])
    (line,) = (group.find("path").get("d") for group in svg.iter("g"))
    (x1, y1), (x2, y2), (x3, y3) = ([float(part) for part in place.split()] for place in line[1:].split("L"))
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert x2 > x1
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.2)
    assert y2 > y1  # downwards


@given(st.floats(-6, 6), st.floats(0.7, 8))
def test_the_labels_of_a_logarithmic_scale_are_spread_over_it(low: float, decades: float) -> None:
    axis = Axis(10**low, 10 ** (low + decades), logarithmic=True)
    places = [axis.place(tick) for tick in axis.ticks()]
    assert len(places) >= 3
    assert places == sorted(places) and places[0] >= -1e-6 and places[-1] <= 1 + 1e-6
    assert max(later - place for place, later in pairwise([0.0, *places, 1.0])) < 0.62


values = st.one_of(st.floats(), st.floats(0, 1), st.integers(-5, 5))


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=6))
def test_any_numbers_can_be_drawn(figures: list[tuple[float, float, float]]) -> None:
    entries = [
        entry(
            epoch,
            train_loss=loss,
            dev_wer=wer,
            gradient_norm=norm,
            layers={"a": {"update_ratio": norm, "dead": wer}},
        )
        for epoch, (loss, wer, norm) in enumerate(figures, start=1)
    ]
    text = page(About("run"), entries, [])
    Page(text)
    assert not re.search(r'(cx|cy|x|y|d)="[^"]*(nan|inf)', text)


def test_charts_without_points_are_left_out() -> None:
    shown = [chart.title for chart in charts([{"epoch": 1, "step": 1, "train_loss": 3.0, "dev_perplexity": 9.0}])]
    assert shown == ["Loss (nats per label)", "Perplexity on dev"]
    assert all(isinstance(chart, Chart) for chart in charts([entry(1)]))


def test_the_terminal_gets_three_to_eight_lines(tmp_path: Path) -> None:
    entries = [entry(epoch) for epoch in range(1, 6)]
    findings = [Finding(f"kind {index}", "warning", "seen", "advice") for index in range(5)]
    assert len(summary(entries, [])) == 2  # and the page's name
    assert len(summary(entries, findings[:1])) == 3
    assert len(summary(entries, findings[:3])) == 7
    lines = summary(entries, findings)
    assert len(lines) == 8
    assert lines[-1] == "… and 2 more in the report"
    assert lines[0] == (
        "5 epochs in 5 min, train loss 4.000 → 0.800, dev loss 5.000 → 1.000, dev WER 100.00% → 20.00%"
    )
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries), encoding="utf-8")
    assert write(tmp_path / "report.html", About("run"), tmp_path, finished=True) == summary(
        entries, diagnose(entries, finished=True)
    )


def test_curves_of_a_model_that_has_learnt_little_are_not_called_well() -> None:
    said = "nothing in the curves looks wrong"
    assert summary([entry(1, dev_wer=3.93)], [])[1] == f"{said}, but little has been learnt yet: dev WER 393.00%"
    assert summary([entry(1), entry(2, dev_wer=0.89)], [])[1] == said
    assert "dev WER 100.00%.</p>" in page(About("run"), [entry(1)], [])
    assert "<p>Nothing in the curves looks wrong.</p>" in page(About("run"), [entry(2)], [])


def test_what_restores_no_better_than_the_mean_is_not_called_well() -> None:
    assert summary([{"epoch": 1, "dev_restoration": 1.02}], [])[1].endswith(
        "error of restoration 1.020, no better than the mean"
    )
    assert summary([{"epoch": 1, "dev_restoration": 0.98}], [])[1] == "nothing in the curves looks wrong"


def test_a_training_that_ended_early_or_is_not_over_says_so() -> None:
    assert headline([entry(1, epochs=3), entry(2, epochs=3)]).startswith("2 of 3 epochs in ")
    assert headline([entry(1, epochs=1)]).startswith("1 epoch in ")


def test_what_changed_is_told_and_marked_in_every_chart() -> None:
    entries = [
        entry(1, masked=False, batch_growth=1.0, events=[]),
        entry(2, masked=False, batch_growth=1.0, events=["learning from here on: encoder"]),
        entry(3, masked=True, batch_growth=2.5, events=[]),
        entry(4, masked=True, batch_growth=2.5, events=["a <plateau>"]),
    ]
    assert events(entries) == [
        (2, "learning from here on: encoder"),
        (3, "masks of SpecAugment from here on"),
        (3, "batches are 2.5 times as large as at first"),
        (4, "a <plateau>"),
    ]
    text = page(About("run"), entries, [])
    assert Page(text).text.count("epoch 4: a <plateau>") == 1 + text.count("<svg viewBox")
    assert "Size of batches" in text and "Size of batches" not in page(About("run"), entries[:2], [])
    assert events([{"epoch": 1}, {"epoch": 2}]) == []
    growing = [entry(epoch, batch_growth=growth) for epoch, growth in enumerate((1.0, 1.1, 1.3, 1.3, 1.5), start=1)]
    assert [epoch for epoch, _ in events(growing)] == [2, 5]


def test_what_was_used_and_said_is_told_but_for_the_figures_of_epochs() -> None:
    said = [
        "  9 parameters on cpu",
        "epoch   1  train loss 1.0",
        "epoch   2  learning from here on: head",
        "kept <1>",
    ]
    found = Page(page(About("run", used=[("training.l1=0.1", "A <penalty>.")], said=said), [entry(1)], []))
    assert "training.l1=0.1" in found.text and "A <penalty>." in found.text
    assert "9 parameters on cpu" in found.text and "kept <1>" in found.text
    assert "learning from here on: head" in found.text and "train loss 1.0" not in found.text


TECHNIQUES = (
    "training.optimizer=sgd",
    "training.backstitch=0.3",
    "training.schedule=plateau",
    "training.plateau_patience=0",
    "training.step_factor=0.5",
    "training.batch_growth=1.5",
    "training.clip_value=0.5",
    "training.l1=1.0e-05",
    "training.max_norm=4",
    "training.ema=0.9",
    "training.rates={head: 0.5}",
    "training.unfreeze={frontend: 2}",
    "training.patience=3",
    "training.epochs=8",
    "training.learning_rate=1.0e-12",
    "model.frontend.activation=elu",
    "model.frontend.normalization=group",
    "model.frontend.dropout=0.1",
    "model.encoder.weight_dropout=0.1",
    "model.encoder.dropout_kind=locked",
    "model.encoder.forget_bias=0.5",
    "augment.spec_augment.start_epoch=2",
    "augment.spec_augment.freq_width=2",
    "augment.spec_augment.time_width=3",
)
"""As the report has them; forget gates are of an LSTM."""


def test_every_technique_that_is_on_is_seen(tmp_path: Path, capsys: Capture) -> None:
    path = write_recipe(tmp_path, train=40)
    common = ("--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data"))
    parts = ("model.encoder.cell=lstm", "augment.spec_augment={}")
    assert call("train", str(path), *SETTINGS, *parts, *TECHNIQUES, *common) == 0
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    for technique in TECHNIQUES:
        assert technique in found.text
    for seen in (
        "epoch 2: learning from here on: frontend",
        "epoch 2: masks of SpecAugment from here on",
        "a plateau: from here on the learning rate over the size of batches is 0.5 times what it was",
        "batches are 1.5 times as large as at first",
        "Learning rate of each layer",
        "parameters on cpu in ",
        "kept: ",
    ):
        assert seen in found.text
    capsys.readouterr()
    assert call("report", str(tmp_path / "run")) == 0
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == text


def test_what_was_said_in_part_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(entry(1)) + "\n", encoding="utf-8")
    (tmp_path / "output.txt").write_bytes(b"a caf\xc3")
    write(tmp_path / "report.html", About("run"), tmp_path, finished=True)
    assert "a caf" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_stopped_a_training_is_told_whatever_its_log_is_like(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("no JSON\n", encoding="utf-8")
    page = tmp_path / "report.html"
    with (
        pytest.raises(InterruptedTrainingError, match="the reason"),
        reported(tmp_path, page, tmp_path / "final", Silent(), lambda: About("run")),
    ):
        raise InterruptedTrainingError("the reason")
    with (
        pytest.raises(DataError, match="line 1"),
        reported(tmp_path, page, tmp_path / "final", Silent(), lambda: About("run")),
    ):
        pass


def test_a_report_that_can_not_be_written_changes_no_outcome(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(entry(1)) + "\n", encoding="utf-8")
    reporter = Recorder()
    page = tmp_path / "report.html"
    page.mkdir()
    for outcome in (nullcontext(), pytest.raises(InterruptedTrainingError, match="the reason")):
        with outcome, reported(tmp_path, page, tmp_path / "final", reporter, lambda: About("run")):
            if not isinstance(outcome, nullcontext):
                raise InterruptedTrainingError("the reason")
    assert len(reporter.warned) == 2
    assert all(f"{page}: the report can't be written (" in warning for warning in reporter.warned)


# ------------------------------------------------------------------------------------------------ command


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    return int(exit.value.code or 0)


def test_train_and_the_command_report(tmp_path: Path, capsys: Capture) -> None:
    path, run = write_recipe(tmp_path, train=20), tmp_path / "run"
    common = ("--run-dir", str(run), "--data-dir", str(tmp_path / "data"))
    assert call("train", str(path), *SETTINGS, "training.epochs=2", *common) == 0
    said = capsys.readouterr().err
    assert f"report: {run / 'report.html'}" in said
    assert "2 epochs in" in said
    first = (run / "report.html").read_text(encoding="utf-8")
    assert "batch_seconds: 6" in first  # the settings
    (run / "report.html").unlink()
    assert call("report", str(run)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"report: {run / 'report.html'}"
    assert 3 <= len(out.splitlines()) <= 9
    assert Page((run / "report.html").read_text(encoding="utf-8")).labels == Page(first).labels
    assert call("report", str(run), "--out", str(tmp_path / "other.html")) == 0
    assert (tmp_path / "other.html").is_file()


def test_an_interrupted_training_is_reported_too(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = AcousticTask.validate

    def interrupted_in_the_second(task: AcousticTask) -> DevResult:
        if log.read(tmp_path / "run" / "train"):
            raise InterruptedTrainingError("stopped")
        return validate(task)

    monkeypatch.setattr(AcousticTask, "validate", interrupted_in_the_second)
    path = write_recipe(tmp_path, train=20)
    common = ("--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data"))
    assert call("train", str(path), *SETTINGS, *common) == 130
    assert "1 of 8 epochs in" in capsys.readouterr().err
    assert "under-fitting" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_log_that_was_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(f'{json.dumps(entry(1))}\n{json.dumps(entry(2))}\n{{"epo')
    assert [entry["epoch"] for entry in log.read(tmp_path)] == [1, 2]
    (tmp_path / "log.jsonl").write_text("")
    assert log.read(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"epoch": 2, "dev_l\0ss"', "this is not JSON"),
        (b'{"ep\xffch": 2}', "byte 4 is not UTF-8"),
        (b"[2]", "this is not an epoch's figures"),
        (b"{}", "this is not an epoch's figures"),
        (b'{"epoch": "2", "step": 2}', "its epoch is no number"),
        (b'{"epoch": 2, "ste0": 2}', "this is not an epoch's figures"),
        (b'{"epoch": 2, "step": 2, "dev_loss": "2"}', "its dev_loss is no number"),
        (b'{"epoch": 2, "step": 2, "events": "frozen"}', "its events are no list of lines"),
        (b'{"epoch": 2, "step": 2, "infinite": [2]}', "its infinite are no list of lines"),
        (b'{"epoch": 2, "step": 2, "layers": 2}', "its layers have no numbers by name"),
        (b'{"epoch": 2, "step": 2, "layers": {"head": {"gradient": null}}}', "its layers have no numbers by name"),
    ],
)
def test_a_damaged_log_is_told_by_its_line(tmp_path: Path, capsys: Capture, line: bytes, fault: str) -> None:
    path = tmp_path / "train" / "log.jsonl"
    path.parent.mkdir()
    path.write_bytes(json.dumps(entry(1)).encode() + b"\n" + line + b"\n")
    assert call("report", str(tmp_path)) == 1
    assert f"error: {path}, line 2: the log is damaged: {fault}" in capsys.readouterr().err


def test_settings_that_are_not_text_are_told(tmp_path: Path, capsys: Capture) -> None:
    """A language model's, which are only shown."""
    (tmp_path / "log.jsonl").write_text(json.dumps(entry(1)) + "\n")
    (tmp_path / "settings.json").write_bytes(b"{\xff}")
    assert call("report", str(tmp_path)) == 1
    assert f"error: {tmp_path / 'settings.json'}: byte 1 is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_training_is_refused(tmp_path: Path, capsys: Capture, there: bool) -> None:
    if there:
        (tmp_path / "run").mkdir()
    assert call("report", str(tmp_path / "run")) == 1
    told = "no epoch of a training has ended here" if there else "there is no such folder"
    assert f"{tmp_path / 'run'}: {told}" in capsys.readouterr().err
