"""Training on the datasets: order and loaders, collators per model family, model preparation. Needs the extra `train` (torch, transformers)."""
