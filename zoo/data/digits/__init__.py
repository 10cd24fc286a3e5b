"""The embedded data set: scikit-learn's 1,797 handwritten digits, as a TFDS builder."""

from zoo.data.digits.builder import Digits

__all__ = ["Digits"]
