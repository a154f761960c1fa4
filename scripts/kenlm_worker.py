"""What KenLM makes of a model and a text: `python kenlm_worker.py ARPA TEXT ROUNDS`, for `measure_lm.py`.

Runs where kenlm is installed and nothing else. Prints the fields of `asr.text.perplexity.Perplexity` as JSON, and
the seconds of the best of so many rounds.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import kenlm  # type: ignore[import-not-found]

arpa, text, rounds = sys.argv[1:]
model = kenlm.Model(arpa)
sentences = Path(text).read_text(encoding="utf-8").splitlines()
seconds = math.inf
for _ in range(int(rounds)):
    started = time.perf_counter()
    scores = [score for sentence in sentences for score in model.full_scores(sentence)]
    seconds = min(seconds, time.perf_counter() - started)
known = [log_prob for log_prob, _, is_unknown in scores if not is_unknown]
answer = {
    "sentences": len(sentences),
    "words": len(scores) - len(sentences),
    "unknown": len(scores) - len(known),
    "predictions": len(scores),
    "log_prob": math.log(10) * math.fsum(log_prob for log_prob, _, _ in scores),
    "log_prob_known": math.log(10) * math.fsum(known),
    "seconds": seconds,
}
print(json.dumps(answer))
