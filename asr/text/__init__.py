"""Text: its normalisation, the units that a model puts out, language models, and grammars of spoken commands."""
