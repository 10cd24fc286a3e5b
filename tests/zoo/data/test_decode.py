import io
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps, PngImagePlugin

from zoo.data.decode import decode_channels, decode_image, decode_label_map, image_size, to_rgb
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
    """Pillow decodes this file without an error, but to wrong pixels."""
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


def entropy_end(data):
    return data.rindex(b"\xff\xd9")


@pytest.mark.parametrize("kind", ["jpeg", "jpeg 4:4:4", "progressive", "gray jpeg", "cmyk jpeg"])
@pytest.mark.parametrize("stray", [bytes(2), b"\x12", bytes(240), b"\xff\xff", b"ab\xff\x00cd"])
def test_stray_bytes_before_the_end_marker_change_nothing(kind, stray, photo, encode):
    mode, container, options = KINDS[kind]
    data = encode(photo.convert(mode), container, **options)
    end = entropy_end(data)
    want = decode_image(data, "clean")
    np.testing.assert_array_equal(decode_image(data[:end] + stray + data[end:], "x"), want)
    np.testing.assert_array_equal(decode_image(data[:end], "no end marker"), want)
    np.testing.assert_array_equal(decode_image(data[:end] + stray, "neither"), want)


def test_a_jpeg_that_is_shrunk_may_have_stray_bytes_too(photo, encode):
    data = encode(photo.resize((600, 400), Image.Resampling.BICUBIC), "JPEG", quality=95)
    end = entropy_end(data)
    for stray in (bytes(2), b"\x12" * 50):
        pixels = decode_image(data[:end] + stray + data[end:], "x", min_side=99)
        np.testing.assert_array_equal(pixels, decode_image(data, "x", min_side=99))


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "gray jpeg", "restart"])
def test_a_jpeg_cut_anywhere_is_an_error_or_whole(kind, photo, encode):
    """Also between two scans, where libjpeg itself sees only the missing end marker."""
    if kind in KINDS:
        mode, container, options = KINDS[kind]
    else:
        mode, container, options = "RGB", "JPEG", {"restart_marker_blocks": 3}
    data = encode(photo.convert(mode), container, **options)
    want = decode_image(data, "clean")
    scans = [i for i in range(len(data)) if data[i : i + 2] in (b"\xff\xda", b"\xff\xc4")]
    for cut in {*scans, *range(700, len(data) - 2, 5), *range(len(data) - 12, len(data))}:
        try:
            pixels = decode_image(data[:cut], "x")
        except DataError:
            assert cut < len(data) - 2
        else:
            np.testing.assert_array_equal(pixels, want)


def test_most_damage_that_leaves_bytes_before_the_end_is_an_error(photo, encode):
    """A changed bit may shift all that follows, so that bytes are left: those are no stray ones."""
    data = encode(photo, "JPEG", quality=95)
    start, refused, strayed = data.index(b"\xff\xda") + 14, 0, 0
    for place in range(start, entropy_end(data) - 1, 3):
        damaged = bytearray(data)
        damaged[place] ^= 0x20
        try:
            simplejpeg.decode_jpeg(bytes(damaged))
        except ValueError as error:
            if "0xd9" in str(error):
                strayed += 1
                try:
                    decode_image(bytes(damaged), "x")
                except DataError:
                    refused += 1
    assert strayed > 20 and refused > 0.95 * strayed


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("key", ["note", "Comment"])
def test_a_long_text_in_a_png_does_not_matter(compressed, key, photo, encode):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, "a" * 2_000_000, zip=compressed)
    info.add_itxt(key, "b" * 2_000_000, zip=compressed)
    profile = zlib.compress(bytes(2_000_000))
    info.add(b"iCCP", b"profile\0\0" + profile)
    data = encode(photo, "PNG", pnginfo=info)
    np.testing.assert_array_equal(decode_image(data, "x"), photo)
    assert image_size(data, "x") == (47, 61)
    mask = encode(photo.convert("L"), "PNG", pnginfo=info)
    np.testing.assert_array_equal(decode_label_map(mask, "x"), photo.convert("L"))


@pytest.mark.parametrize("container", ["PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
def test_no_limit_on_pixels_and_no_warning(container, photo, encode, monkeypatch):
    data = encode(photo, container)
    want = decode_image(data, "x")
    for limit in (1000, 2000):  # an error and a warning of Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        np.testing.assert_array_equal(decode_image(data, "x"), want)
        assert image_size(data, "x") == want.shape[:2]
        assert Image.MAX_IMAGE_PIXELS == limit


def xmp(orientation):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description'
        f' tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("source", ["exif", "xmp"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_size_and_pixels_agree_on_the_orientation(container, source, orientation, photo, encode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if source == "exif":
        options = {"exif": exif}
    elif container == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
        options = {"pnginfo": info}
    elif container == "TIFF":
        options = {"tiffinfo": {700: xmp(orientation)}}
    else:
        options = {"xmp": xmp(orientation)}
    if container == "WEBP":
        options["lossless"] = True
    data = encode(photo, container, **options)
    pixels = decode_image(data, "x")
    np.testing.assert_array_equal(pixels, by_pillow(data))
    assert image_size(data, "x") == pixels.shape[:2] == ((61, 47) if orientation == 6 else (47, 61))
    np.testing.assert_array_equal(to_rgb(Image.open(io.BytesIO(data)), "x"), pixels)
    assert image_size(data, "x", upright=False) == (47, 61)
    as_stored = decode_image(
        encode(photo, container, **({"lossless": True} if container == "WEBP" else {})), "x"
    )
    np.testing.assert_array_equal(decode_image(data, "x", upright=False), as_stored)


def test_a_mask_turns_with_its_image(photo, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = decode_label_map(encode(Image.fromarray(labels), "PNG", exif=exif), "x")
    np.testing.assert_array_equal(found, np.rot90(labels, -1))


SIXTEEN = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(SIXTEEN),
        Image.fromarray(SIXTEEN.astype(np.int32)),
        Image.frombytes("I;16B", (64, 48), SIXTEEN.astype(">u2").tobytes()),
    ],
    ids=["I;16", "I", "I;16B"],
)
def test_sixteen_bit_pictures_keep_their_upper_byte(image):
    np.testing.assert_array_equal(to_rgb(image, "x"), np.stack([SIXTEEN >> 8] * 3, axis=-1))


@pytest.mark.parametrize("container", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_files_keep_their_upper_byte(container, encode):
    data = encode(Image.fromarray(SIXTEEN), container)
    np.testing.assert_array_equal(decode_image(data, "x")[..., 0], SIXTEEN >> 8)


@pytest.mark.parametrize(
    "values",
    [
        np.ones((4, 4), np.float32),
        np.full((4, 4), 200, np.int32),
        np.full((4, 4), 70_000, np.int32),
    ],
    ids=["F", "I of few bits", "I of many bits"],
)
def test_pictures_without_a_known_range_are_refused(values):
    with pytest.raises(DataError, match=r"^x: .*mode [IF].* no known range; use 8 or 16 bits"):
        to_rgb(Image.fromarray(values), "x")


def test_channels_that_are_ids_are_not_clipped(encode):
    ids = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    data = encode(Image.fromarray(ids), "PNG")
    np.testing.assert_array_equal(decode_channels(data, "x"), ids)
    with pytest.raises(DataError, match="x: needs three channels of 8 bits; this image is I;16"):
        decode_channels(encode(Image.fromarray(SIXTEEN), "PNG"), "x")
