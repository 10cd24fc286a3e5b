import numpy as np
import pytest

from zoo.ops.priors import PriorBoxes


def test_the_boxes_of_a_cell_by_hand():
    """Square, between the scales, and wide and tall ones, around the middle of the cell."""
    priors = PriorBoxes(scales=(0.2, 0.8), ratios=((4,),), steps=(10,))
    (found,) = priors.per_level([(2, 3)], (20, 40))
    assert priors.num_per_cell == (4,)
    cell = found.reshape(2, 3, 4, 4)[1, 2]
    centre = (cell[:, :2] + cell[:, 2:]) / 2
    np.testing.assert_allclose(centre, [[25, 15]] * 4, rtol=1e-6)
    # In shares of the image: 0.2, sqrt(0.2 * 0.8) = 0.4, 0.2 * 2 and 0.2 / 2.
    size = cell[:, 2:] - cell[:, :2]
    np.testing.assert_allclose(size, [[8, 4], [16, 8], [16, 2], [4, 8]], rtol=1e-6)


def test_boxes_are_at_most_as_large_as_the_image():
    priors = PriorBoxes(scales=(0.9, 1.05), ratios=((2,),))
    (found,) = priors.per_level([(1, 1)], (30, 20))
    size = found[:, 2:] - found[:, :2]
    low, high = 0.9 / np.sqrt(2), np.sqrt(0.9 * 1.05)
    expected = [[18, 27], [20 * high, 30 * high], [20, 30 * low], [20 * low, 30]]
    np.testing.assert_allclose(size, expected, rtol=1e-5)


def test_numbers_of_levels_must_fit():
    with pytest.raises(ValueError, match="1 levels of ratios need 2 scales and 1 steps"):
        PriorBoxes(scales=(0.2,), ratios=((2,),))
    with pytest.raises(ValueError, match="need 2 scales and 1 steps"):
        PriorBoxes(scales=(0.2, 0.3), ratios=((2,),), steps=(8, 16))
