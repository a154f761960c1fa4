"""What tests may need that is not everywhere."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

espeak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="needs the extra synth")
