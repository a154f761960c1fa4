"""SpeechBrain's CTC recipe, on given recordings and for a given time: `compare_speechbrain.py` starts it.

Runs where speechbrain is installed and asr is not. All is as in recipes/TIMIT/ASR/CTC of SpeechBrain but for what
its data forbids or its noise needs a network for (characters in place of phonemes, no added noise, one loader
process) and what it is told: the time, and the sizes, cell and precision. The test set is transcribed greedily by
the weights with the lowest token error rate on dev.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import speechbrain as sb  # noqa: E402
import torch  # noqa: E402
from speechbrain.augment.augmenter import Augmenter  # noqa: E402
from speechbrain.augment.time_domain import DropChunk, DropFreq, SpeedPerturb  # noqa: E402
from speechbrain.dataio.batch import PaddedBatch  # noqa: E402
from speechbrain.dataio.dataset import DynamicItemDataset  # noqa: E402
from speechbrain.decoders import ctc_greedy_decode  # noqa: E402
from speechbrain.lobes.features import Fbank  # noqa: E402
from speechbrain.lobes.models.CRDNN import CRDNN  # noqa: E402
from speechbrain.nnet.linear import Linear  # noqa: E402
from speechbrain.nnet.losses import ctc_loss  # noqa: E402
from speechbrain.nnet.RNN import LSTM, LiGRU  # noqa: E402
from speechbrain.nnet.schedulers import NewBobScheduler, update_learning_rate  # noqa: E402
from speechbrain.processing.features import InputNormalization  # noqa: E402
from speechbrain.utils.metric_stats import ErrorRateStats  # noqa: E402


class Trainer(sb.Brain):
    """The recipe's, with a clock."""

    def compute_forward(self, batch, stage):
        waveforms, lengths = batch.signal
        if stage == sb.Stage.TRAIN:
            waveforms, lengths = self.hparams.augment(waveforms, lengths)
        features = self.modules.normalize(self.modules.features(waveforms), lengths)
        return self.modules.output(self.modules.model(features)).log_softmax(-1), lengths

    def compute_objectives(self, predictions, batch, stage):
        log_probs, lengths = predictions
        labels, label_lengths = batch.labels
        if stage == sb.Stage.TRAIN:
            labels = self.hparams.augment.replicate_labels(labels)
            label_lengths = self.hparams.augment.replicate_labels(label_lengths)
        if stage == sb.Stage.VALID:
            heard = ctc_greedy_decode(log_probs, lengths, blank_id=0)
            self.errors.append(batch.id, heard, labels, target_len=label_lengths)
        return ctc_loss(log_probs, labels, lengths, label_lengths, blank_index=0)

    def on_stage_start(self, stage, epoch=None):
        self.started, self.errors = time.perf_counter(), ErrorRateStats()

    def on_stage_end(self, stage, loss, epoch=None):
        now = time.perf_counter()
        if stage == sb.Stage.TRAIN:
            self.hparams.clock["trained"] += now - self.started
            self.train_loss = loss
            return
        error = self.errors.summarize("error_rate")
        _, rate = self.hparams.annealing(error)
        update_learning_rate(self.optimizer, rate)
        best = error < self.hparams.clock["best"]
        if best:
            self.hparams.clock["best"] = error
            torch.save(self.modules.state_dict(), self.hparams.weights)
        minutes = self.hparams.clock["trained"] / 60
        print(
            f"epoch {epoch}  train loss {self.train_loss:.3f}  dev loss {loss:.3f}, token errors {error:.2f}%, "
            f"next rate {rate:.3f}  {minutes:.1f} minutes of training{'  best' if best else ''}",
            flush=True,
        )


def main():
    task = json.loads(sys.argv[1])
    work = Path(task["work"])
    torch.set_num_threads(task["threads"])
    sb.utils.seed.seed_everything(task["seed"])
    layers, units = task["rnn"]
    clock = {"trained": 0.0, "best": float("inf")}
    trainer = Trainer(
        modules={
            "features": Fbank(sample_rate=16000, n_fft=400, n_mels=40),
            "normalize": InputNormalization(norm_type="global"),
            "model": CRDNN(
                input_size=40,
                activation=torch.nn.LeakyReLU,
                dropout=0.15,
                cnn_blocks=2,
                cnn_channels=task["cnn"],
                cnn_kernelsize=(3, 3),
                time_pooling=True,
                time_pooling_size=task["pooling"],
                rnn_class={"ligru": LiGRU, "lstm": LSTM}[task["cell"]],
                rnn_layers=layers,
                rnn_neurons=units,
                rnn_bidirectional=True,
                dnn_blocks=2,
                dnn_neurons=task["dnn"],
            ),
            "output": Linear(input_size=task["dnn"], n_neurons=len(task["surfaces"])),
        },
        opt_class=lambda parameters: torch.optim.Adadelta(parameters, lr=1.0, rho=0.95, eps=1e-8),
        hparams={
            "augment": Augmenter(
                concat_original=True,
                min_augmentations=3,
                max_augmentations=3,
                augment_prob=1.0,
                augmentations=[
                    SpeedPerturb(orig_freq=16000, speeds=[95, 100, 105]),
                    DropFreq(drop_freq_count_low=1, drop_freq_count_high=3, drop_freq_width=0.05),
                    DropChunk(drop_length_low=1000, drop_length_high=2000, drop_count_low=1, drop_count_high=5),
                ],
            ),
            "annealing": NewBobScheduler(1.0, improvement_threshold=0.0025, annealing_factor=0.8, patient=0),
            "clock": clock,
            "weights": work / "weights.pt",
        },
        run_opts={"device": "cpu", "precision": task["precision"]},
    )
    weights = sum(parameter.numel() for parameter in trainer.modules.parameters())
    print(f"{weights:,} weights", flush=True)
    train, dev, test = (loader(work / f"{name}.json", task["batch"]) for name in ("train", "dev", "test"))
    epoch = 0
    while clock["trained"] < 60 * task["minutes"]:
        epoch += 1
        trainer.fit([epoch], train, dev, progressbar=False)
    trainer.modules.load_state_dict(torch.load(work / "weights.pt"))
    transcribe(trainer, test, task["surfaces"], work / "heard.json")


def loader(path, size):
    """Shortest first, as the recipe has it."""
    data = DynamicItemDataset.from_json(path).filtered_sorted(sort_key="duration")
    data.add_dynamic_item(sb.dataio.dataio.read_audio, takes="wav", provides="signal")
    data.set_output_keys(["id", "signal", "labels"])
    return sb.dataio.dataloader.SaveableDataLoader(data, batch_size=size, num_workers=1, collate_fn=collate)


def collate(rows):
    return PaddedBatch([{**row, "labels": torch.tensor(row["labels"])} for row in rows])


def transcribe(trainer, test, surfaces, path):
    """Write what is heard in each recording."""
    trainer.modules.eval()
    heard = {}
    with torch.no_grad():
        for batch in test:
            log_probs, lengths = trainer.compute_forward(batch, sb.Stage.TEST)
            answers = ctc_greedy_decode(log_probs, lengths, blank_id=0)
            for name, labels in zip(batch.id, answers, strict=True):
                heard[name] = "".join(surfaces[label] for label in labels)
    path.write_text(json.dumps(heard), encoding="utf-8")


if __name__ == "__main__":
    main()
