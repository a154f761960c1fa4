"""From log-probabilities to words, with their times and confidences."""
