"""Reading corpora in the layouts that others have given them."""
