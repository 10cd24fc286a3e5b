"""Text: tokenizers, decoding, translation."""
