"""What can be done to a waveform: pure functions, (samples,) float32 of full scale ±1 in and out.

Those with chance in them draw from the generator that they are given, and nothing else. Results may pass ±1.
"""
