"""Tokenizers and their event tokens, image tokens per model family, packing into rows of fixed length."""
