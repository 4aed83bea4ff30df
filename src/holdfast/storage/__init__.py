"""Places where checkpoint bytes live. Knows nothing of tensors."""
