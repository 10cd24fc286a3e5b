import numpy as np
import scipy.ndimage

from zoo.ops.borders import border_weights


def test_border_weights_are_equation_2():
    instances = np.zeros((30, 40), np.int32)
    instances[5:12, 4:15] = 1
    instances[5:20, 18:30] = 2
    instances[16:28, 3:14] = 7
    distances = np.sort(
        [scipy.ndimage.distance_transform_edt(instances != i) for i in (1, 2, 7)], 0
    )
    expected = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 5**2))
    expected[instances > 0] = 0
    np.testing.assert_allclose(border_weights(instances), expected, rtol=1e-4, atol=1e-5)
    assert border_weights(instances).argmax() // 40 in range(5, 12)  # between the first two objects


def test_one_object_has_no_border_to_another():
    instances = np.zeros((8, 8), np.int32)
    assert not border_weights(instances).any()
    instances[2:5, 2:5] = 1
    assert not border_weights(instances).any()
