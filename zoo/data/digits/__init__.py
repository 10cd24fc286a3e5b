"""The embedded data set: scikit-learn's 1,797 handwritten digits, as a TFDS builder."""

from zoo.data.digits.builder import Digits, scans, split_indices

__all__ = ["Digits", "scans", "split_indices"]
