"""Pictures: read from files that anybody may have made, and made of words (Pillow, `primum[vision]`).

A picture's format is known by its first bytes, its size in pixels is looked at before it is decoded, and only three
formats are opened. A rendered picture depends on its words alone: Pillow's own font, fixed sizes, no date in the file.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from typing import Any

from primum.core.errors import BadInputError, MissingExtraError
from primum.core.parts import FOLDER, bytes_of, stored
from primum.core.records import Part
from primum.models.embedded import cache_folder

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 40_000_000
"""Pixels of a picture, at most: a file of a few kilobytes can hold billions."""
SIDE, FONT, MARGIN, SPACING, WIDTH = 760, 72, (20, 10), 11, 16
"""Pixels of a rendered picture, of its letters, of its margins and between lines; letters in a line, at most."""


def pillow() -> Any:
    """Return the module PIL.Image.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow, which reads pictures,", "vision") from error
    return Image


def open_picture(part: Part) -> Any:
    """Return a picture as Pillow's image in RGB.

    Raises:
        BadInputError: the file has gone or changed, is no whole picture, or has too many pixels.
        MissingExtraError: Pillow is not installed.
    """
    image, data = pillow(), io.BytesIO(bytes_of(part))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(data, formats=FORMATS) as found:
                if found.size[0] * found.size[1] > MOST_PIXELS:
                    raise _too_large(part, f"{found.size[0]} x {found.size[1]}")
                return found.convert("RGB")
    except (image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise _too_large(part, "far too many") from error
    except (OSError, SyntaxError, ValueError) as error:
        cure = "save it again as PNG or JPEG"
        raise BadInputError(f"no whole picture ({error})", where=part.path, cure=cure) from error


def _too_large(part: Part, pixels: str) -> BadInputError:
    cure = f"make it smaller than {MOST_PIXELS // 1_000_000} megapixels"
    return BadInputError(f"a picture of {pixels} pixels", where=part.path, cure=cure)


def rendered(text: str) -> Part:
    """Return a picture of a text, kept in primum's cache: black on white, lines broken at 16 letters.

    The letters become smaller where the text needs more than the 760 x 760 pixels of FigStep's pictures
    (arXiv:2311.05608, appendix; its font is FreeMono Bold at 80, this one Pillow's own).

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    image = pillow()
    from PIL import ImageDraw, ImageFont

    canvas = image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(canvas)
    for size in range(FONT, 7, -4):
        lines = broken(text, WIDTH * FONT // size)
        font = ImageFont.load_default(size)
        box = draw.multiline_textbbox(MARGIN, lines, font=font, spacing=SPACING)
        if box[2] <= SIDE and box[3] <= SIDE:
            break
    draw.multiline_text(MARGIN, lines, fill="black", font=font, spacing=SPACING)
    data = io.BytesIO()
    canvas.save(data, "PNG")
    return stored("image", data.getvalue(), cache_folder() / FOLDER, text)


def broken(text: str, width: int) -> str:
    """Break each line of a text where it is longer than `width` letters."""
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))
