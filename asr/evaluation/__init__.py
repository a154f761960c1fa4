"""How good transcripts are: word and character error rates, their uncertainty, and reports of them."""
