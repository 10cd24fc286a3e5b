import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from zoo.data.decode import decode_image
from zoo.data.errors import DataError

KINDS = {
    "jpeg": ("RGB", "JPEG", {}),
    "jpeg 4:4:4": ("RGB", "JPEG", {"subsampling": 0}),
    "progressive": ("RGB", "JPEG", {"progressive": True}),
    "gray jpeg": ("L", "JPEG", {}),
    "cmyk jpeg": ("CMYK", "JPEG", {}),
    "png": ("RGB", "PNG", {}),
    "alpha": ("RGBA", "PNG", {}),
    "gray and alpha": ("LA", "PNG", {}),
    "palette": ("P", "PNG", {}),
    "one bit": ("1", "PNG", {}),
    "webp": ("RGB", "WEBP", {}),
    "gif": ("RGB", "GIF", {}),
    "tiff": ("RGB", "TIFF", {}),
    "bmp": ("RGB", "BMP", {}),
}


def by_pillow(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pillow_whatever_the_name(kind, photo, encode):
    mode, container, options = KINDS[kind]
    data = encode(photo.convert(mode), container, **options)
    pixels = decode_image(data, "photo.jpg")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("container", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(container, orientation, photo, encode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, container, exif=exif)
    np.testing.assert_array_equal(decode_image(data, "x"), by_pillow(data))


def test_palette_with_transparency_is_dropped_without_a_warning(photo, encode):
    palette = photo.convert("P")
    data = encode(palette, "PNG", transparency=bytes([0, 128]))
    np.testing.assert_array_equal(decode_image(data, "x"), palette.convert("RGB"))


def test_sixteen_bit_gray_keeps_the_upper_byte(encode):
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    pixels = decode_image(encode(Image.fromarray(values), "PNG"), "x")
    np.testing.assert_array_equal(pixels, np.stack([values // 256] * 3, axis=-1))


def test_bytes_after_the_end_are_ignored(photo, encode):
    data = encode(photo, "JPEG")
    np.testing.assert_array_equal(decode_image(data + bytes(10), "x"), decode_image(data, "x"))


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "cmyk jpeg", "png", "gif", "webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_is_an_error_that_names_the_image(kind, kept, photo, encode):
    mode, container, options = KINDS[kind]
    data = encode(photo.convert(mode), container, **options)
    with pytest.raises(DataError, match=r"^folder/a\.jpg: not .*image") as caught:
        decode_image(data[: int(kept * len(data))], "folder/a.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"not an image" * 9, bytes(500)])
def test_no_image_is_the_same_error_every_time(data):
    messages = set()
    for _ in range(2):
        with pytest.raises(DataError, match=r"^a\.jpg: ") as caught:
            decode_image(data, "a.jpg")
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_damage_inside_a_jpeg_is_an_error(photo, encode):
    """Pillow decodes this one to garbage."""
    data = bytearray(encode(photo, "JPEG", quality=95))
    middle = data.index(b"\xff\xda") + 200
    data[middle : middle + 20] = bytes(20)
    assert by_pillow(bytes(data)).shape == (47, 61, 3)
    with pytest.raises(DataError, match="Corrupt JPEG"):
        decode_image(bytes(data), "x")


def test_float_pixels_are_refused(encode):
    data = encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match="no known range"):
        decode_image(data, "x")


@pytest.mark.parametrize(
    ("min_side", "shape"), [(0, (400, 600)), (99, (100, 150)), (151, (200, 300)), (201, (400, 600))]
)
def test_large_jpegs_shrink_to_no_less_than_asked(min_side, shape, photo, encode):
    data = encode(photo.resize((600, 400), Image.Resampling.BICUBIC), "JPEG", quality=95)
    pixels = decode_image(data, "x", min_side=min_side)
    assert pixels.shape == (*shape, 3)
    reference = Image.fromarray(by_pillow(data)).resize(shape[::-1], Image.Resampling.BOX)
    assert np.abs(pixels.astype(int) - np.asarray(reference)).mean() < 2
