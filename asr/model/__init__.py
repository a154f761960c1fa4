"""The acoustic model: CNN front-end, recurrent encoder, CTC head and loss."""
