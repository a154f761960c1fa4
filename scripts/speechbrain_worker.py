"""Train a recipe's network with SpeechBrain for some epochs, and say how fast: `bench_train.py` starts it.

Runs where speechbrain is installed and asr is not. The network is put together from SpeechBrain's own layers as its
CTC recipes do it: features in the training process, sentence normalisation, no packing of sequences, batches of
similar length by `DynamicBatchSampler`, one loader process.
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
from gpu import Watch  # noqa: E402
from speechbrain.dataio.batch import PaddedBatch  # noqa: E402
from speechbrain.dataio.dataset import DynamicItemDataset  # noqa: E402
from speechbrain.dataio.sampler import DynamicBatchSampler  # noqa: E402
from speechbrain.lobes.features import Fbank  # noqa: E402
from speechbrain.nnet.CNN import Conv1d  # noqa: E402
from speechbrain.nnet.linear import Linear  # noqa: E402
from speechbrain.nnet.losses import ctc_loss  # noqa: E402
from speechbrain.nnet.normalization import BatchNorm1d, LayerNorm  # noqa: E402
from speechbrain.nnet.RNN import GRU, LSTM  # noqa: E402
from speechbrain.processing.features import InputNormalization  # noqa: E402


class Network(torch.nn.Module):
    """Convolutions, recurrent layers, a linear head, as the recipe's model section says."""

    def __init__(self, model, bins, vocabulary):
        super().__init__()
        cnn, rnn = model["frontend"], model["encoder"]
        layers, width = [], bins
        for channels, stride in zip(cnn["channels"], cnn["strides"], strict=True):
            layers += [
                Conv1d(channels, cnn["kernel"], in_channels=width, stride=stride),
                BatchNorm1d(input_size=channels),
                torch.nn.ReLU(),
            ]
            width = channels
        cell = {"lstm": LSTM, "gru": GRU}[rnn["cell"]]
        self.front = torch.nn.Sequential(*layers)
        self.recurrent, self.norms = torch.nn.ModuleList(), torch.nn.ModuleList()
        for _ in range(rnn["layers"]):
            self.recurrent.append(cell(rnn["hidden"], input_size=width, bidirectional=rnn["bidirectional"]))
            width = rnn["hidden"] * (1 + rnn["bidirectional"])
            self.norms.append(LayerNorm(input_size=width))
        self.dropout = torch.nn.Dropout(rnn["dropout"])
        self.head = Linear(vocabulary, input_size=width)

    def forward(self, x):
        x = self.front(x)
        for layer, norm in zip(self.recurrent, self.norms, strict=True):
            x = self.dropout(norm(layer(x)[0]))
        return self.head(x).log_softmax(-1)


class Trainer(sb.Brain):
    """SpeechBrain's training loop, with a clock."""

    def compute_forward(self, batch, stage):
        waveforms, lengths = batch.to(self.device).signal
        features = self.modules.normalize(self.modules.features(waveforms), lengths)
        return self.modules.network(features), lengths

    def compute_objectives(self, predictions, batch, stage):
        log_probs, lengths = predictions
        labels, label_lengths = batch.labels
        return ctc_loss(log_probs, labels, lengths, label_lengths, blank_index=0)

    def on_stage_start(self, stage, epoch=None):
        self.started = time.perf_counter()

    def on_stage_end(self, stage, loss, epoch=None):
        self.hparams.seconds.append(time.perf_counter() - self.started)
        if len(self.hparams.seconds) == 1:
            self.hparams.watch.start()


def main():
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    torch.manual_seed(1)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    recipe = task["network"]["recipe"]
    training, features = recipe["training"], recipe["features"]

    data = DynamicItemDataset.from_json(task["network"]["data"])
    data.add_dynamic_item(sb.dataio.dataio.read_audio, takes="wav", provides="signal")
    data.set_output_keys(["id", "signal", "labels"])
    sampler = DynamicBatchSampler(data, training["batch_seconds"], num_buckets=30, shuffle=True)
    loader = sb.dataio.dataloader.SaveableDataLoader(
        data,
        batch_sampler=sampler,
        num_workers=training["workers"],
        collate_fn=lambda rows: PaddedBatch([{**row, "labels": torch.tensor(row["labels"])} for row in rows]),
    )
    seconds = []
    trainer = Trainer(
        modules={
            "features": Fbank(
                sample_rate=features["sample_rate"],
                n_mels=features["n_mels"],
                n_fft=512,
                win_length=features["frame_length_ms"],
                hop_length=features["frame_shift_ms"],
            ),
            "normalize": InputNormalization(norm_type="sentence"),
            "network": Network(recipe["model"], features["n_mels"], task["network"]["vocabulary"]),
        },
        opt_class=lambda parameters: torch.optim.AdamW(
            parameters, training["learning_rate"], weight_decay=training["weight_decay"]
        ),
        hparams={"seconds": seconds, "watch": Watch(torch.device(device))},
        run_opts={"device": device, "max_grad_norm": training["clip_norm"], "precision": task["precision"]},
    )
    watch = trainer.hparams.watch
    trainer.fit(range(task["epochs"] + 1), loader, progressbar=False)
    rows = json.loads(Path(task["network"]["data"]).read_text(encoding="utf-8"))
    audio = sum(row["duration"] for row in rows.values())
    print(json.dumps({"speed": task["epochs"] * audio / sum(seconds[1:]), **watch.stop()}))


if __name__ == "__main__":
    main()
