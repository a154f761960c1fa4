"""Manifests, checks, batches, and the corpora that recipes prepare."""
