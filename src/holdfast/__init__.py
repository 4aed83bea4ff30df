"""holdfast: checkpointing and model selection for PyTorch."""
