"""Corpora that recipes prepare: each module here has a `prepare` that leaves manifests and a `corpus.json`."""
