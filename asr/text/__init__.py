"""Text: its normalisation, the units that a model puts out, and grammars of spoken commands."""
