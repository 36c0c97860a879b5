"""Contact sheets: one picture of the candidates of every method, or of the images of every class.

H x W pixels, C channels (1 or 3), S the side of an image on the sheet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boss.results.write import write_atomically

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# In pixels.
THUMBNAIL = 96  # an image is enlarged by the integer factor that comes nearest to this size
MARGIN, GAP = 16, 12
FONT, LINE = 11, 14  # size and distance of lines of text
MIN_WIDTH, MAX_HEIGHT = 800, 20_000  # of the picture; higher ones lose the last ranks
COLUMNS = 10  # groups side by side; up to twice as many for data sets of many classes
NAME_WIDTH = 150  # of the column of class names
BLACK, GRAY, WHITE = "#000000", "#5a5a5a", "#ffffff"
MARK = "#d55e00"  # vermilion, distinct for color-blind readers


@dataclass(frozen=True, eq=False)
class Candidate:
    """An image that could be labeled."""

    image: NDArray[np.uint8]  # (H, W, C), H = W
    index: int  # in the training set
    class_name: str
    score: float
    rank: int  # from 1, in its group


@dataclass(frozen=True, eq=False)
class Row:
    """The candidates of one method."""

    method: str
    consulted_labels: bool
    uncovered: Sequence[str]  # names of the classes without a selected image
    score_name: str
    groups: Sequence[Sequence[Candidate]]  # of each class or cluster, the best first
    rank: int = 1  # of the selected images
    groups_are: str = ""  # "classes" or "clusters" if empty, by consulted_labels


@dataclass(frozen=True, eq=False)
class ClassRow:
    """The images that were given one class; `class_name` of a candidate is its true class."""

    class_name: str
    notes: Sequence[str]  # lines below the name
    labeled: Candidate
    selected: Sequence[Candidate]  # in the order of their ranks


def contact_sheet(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG with a row of images for each method and rank.

    Images are enlarged without smoothing; of large ones some pixels are left out. Below each are
    its class, its rank and score, and its index. If a method selects several images of one class,
    they are framed and their number follows the class. Rows of many classes are broken into lines
    of equal length.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, ImageDraw

    fonts = _load_fonts()
    plain = fonts.plain
    size = len(enlarged(rows[0].groups[0][0].image))
    cell_width, cell_height = max(size, THUMBNAIL) + GAP, size + 3 * LINE + GAP
    most = max(len(row.groups) for row in rows)
    columns = most if most <= COLUMNS else _even(most, 2 * COLUMNS)
    width = max(2 * MARGIN + columns * cell_width, MIN_WIDTH)
    titles = _wrap(title, width - 2 * MARGIN, fonts.large)

    def layout(num_ranks: int) -> tuple[list[list[str]], int]:
        """The text above each row, and the height of the picture."""
        texts = [_wrap(_about(row, num_ranks), width - 2 * MARGIN, plain) for row in rows]
        lines = sum(-(-len(row.groups) // columns) for row in rows) * num_ranks
        text = len(titles) + 1 + sum(len(lines) + 2 for lines in texts)
        return texts, 2 * MARGIN + text * LINE + len(rows) * GAP + lines * cell_height

    num_ranks = max(len(group) for row in rows for group in row.groups)
    fewest = max(row.rank for row in rows)
    while num_ranks > fewest and layout(num_ranks)[1] > MAX_HEIGHT:
        num_ranks -= 1
    texts, height = layout(num_ranks)

    sheet = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    y = _write_lines(draw, y, titles, BLACK, fonts.large) + LINE
    for row, lines in zip(rows, texts, strict=True):
        draw.text((MARGIN, y), row.method, BLACK, fonts.bold)
        y += LINE
        y = _write_lines(draw, y, lines, GRAY, plain) + GAP // 2
        for first in range(0, len(row.groups), columns):
            for rank in range(1, num_ranks + 1):
                for column, group in enumerate(row.groups[first : first + columns]):
                    if rank <= len(group):
                        cell = (MARGIN + column * cell_width, y)
                        _draw(sheet, cell, cell_width, group[rank - 1], row, num_ranks, fonts)
                y += cell_height
        y += LINE + GAP // 2
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def class_sheet(rows: Sequence[ClassRow], title: str, legend: str, path: Path) -> None:
    """Write a PNG with a row for each class: its labeled image, set apart, then the selected ones.

    Images whose true class is another are framed, with the true class below them.

    Args:
        legend: what the marks mean, below the images.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, ImageDraw

    fonts = _load_fonts()
    size = len(enlarged(rows[0].labeled.image))
    cell_width, cell_height = max(size, THUMBNAIL) + GAP, size + 3 * LINE + GAP
    first = MARGIN + NAME_WIDTH  # where the labeled images begin
    apart = first + cell_width + 2 * GAP  # where the selected images begin
    columns = max(len(row.selected) for row in rows)
    width = max(apart + columns * cell_width + MARGIN, MIN_WIDTH)
    titles = _wrap(title, width - 2 * MARGIN, fonts.large)
    legends = _wrap(legend, width - 2 * MARGIN, fonts.plain)
    text = len(titles) + 2 + len(legends)
    height = 2 * MARGIN + text * LINE + GAP + len(rows) * cell_height
    sheet = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    y = _write_lines(draw, y, titles, BLACK, fonts.large) + LINE
    draw.text((first, y), "labeled", GRAY, fonts.plain)
    draw.text((apart, y), "the most certain first", GRAY, fonts.plain)
    y += LINE + GAP // 2
    end = y + len(rows) * cell_height - GAP
    draw.line((apart - 3 * GAP // 2, y, apart - 3 * GAP // 2, end), GRAY)
    for row in rows:
        name = _cut(_one_line(row.class_name), NAME_WIDTH - GAP, fonts.bold)
        draw.text((MARGIN, y), name, BLACK, fonts.bold)
        for number, note in enumerate(row.notes, start=1):
            draw.text((MARGIN, y + number * LINE), note, GRAY, fonts.plain)
        xs = (first, *(apart + column * cell_width for column in range(columns)))
        for x, candidate in zip(xs, (row.labeled, *row.selected), strict=False):
            rank = f"rank {candidate.rank}: " if candidate is not row.labeled else ""
            lines = [
                (f"{rank}{candidate.score:.3f}", GRAY, fonts.plain),
                (f"image {candidate.index}", GRAY, fonts.plain),
            ]
            is_wrong = candidate.class_name != row.class_name
            if is_wrong:
                is_class = f"is {_one_line(candidate.class_name)}"
                lines.append((_cut(is_class, cell_width - GAP // 2, fonts.bold), MARK, fonts.bold))
            _picture(sheet, (x, y), candidate.image, lines, framed=is_wrong)
        y += cell_height
    _write_lines(draw, y + GAP // 2, legends, GRAY, fonts.plain)
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def _write_lines(
    draw: "ImageDraw.ImageDraw",
    y: int,
    lines: Sequence[str],
    color: str,
    font: "ImageFont.FreeTypeFont",
) -> int:
    """Lines from the left margin; returns where the next one would begin."""
    for line in lines:
        draw.text((MARGIN, y), line, color, font)
        y += LINE
    return y


class _Fonts(NamedTuple):
    plain: "ImageFont.FreeTypeFont"
    bold: "ImageFont.FreeTypeFont"
    large: "ImageFont.FreeTypeFont"  # bold


def _load_fonts() -> _Fonts:
    import matplotlib as mpl
    from PIL import ImageFont

    # Matplotlib brings its own fonts: the same on every machine.
    folder = Path(mpl.get_data_path(), "fonts/ttf")
    plain, bold = (str(folder / f"DejaVuSans{weight}.ttf") for weight in ("", "-Bold"))
    sizes = ((plain, FONT), (bold, FONT), (bold, FONT + 3))
    return _Fonts(*(ImageFont.truetype(file, size) for file, size in sizes))


def _draw(
    sheet: "Image.Image",
    cell: tuple[int, int],
    width: int,
    candidate: Candidate,
    row: Row,
    num_ranks: int,
    fonts: _Fonts,
) -> None:
    """A candidate and the three lines below it, in a cell of this width."""
    is_selected = candidate.rank == row.rank
    times = _selected(row).count(candidate.class_name) if is_selected else 1
    font = fonts.bold if is_selected and num_ranks > 1 else fonts.plain
    note = f" ×{times}" if times > 1 else ""
    room = width - GAP // 2 - font.getlength(note)
    lines = [
        (
            _cut(_one_line(candidate.class_name), room, font) + note,
            MARK if times > 1 else BLACK,
            font,
        ),
        (f"rank {candidate.rank}: {candidate.score:.4g}", GRAY, fonts.plain),
        (f"image {candidate.index}", GRAY, fonts.plain),
    ]
    _picture(sheet, cell, candidate.image, lines, framed=times > 1)


def _picture(
    sheet: "Image.Image",
    cell: tuple[int, int],
    image: NDArray[np.uint8],
    lines: Sequence[tuple[str, str, "ImageFont.FreeTypeFont"]],
    *,
    framed: bool,
) -> None:
    """An image and the lines below it: text, color, font."""
    from PIL import Image, ImageDraw

    draw = ImageDraw.Draw(sheet)
    x, y = cell
    pixels = enlarged(image)
    size = len(pixels)
    if framed:
        draw.rectangle((x - 3, y - 3, x + size + 2, y + size + 2), MARK)
    sheet.paste(Image.fromarray(pixels), (x, y))
    for number, (text, color, font) in enumerate(lines):
        draw.text((x, y + size + 3 + number * LINE), text, color, font)


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every pixel repeated so that the image is about 96 wide, or every n-th pixel of a large one.

    Args:
        image: (H, W, C), H = W.

    Returns:
        (S, S, 3), 64 <= S <= 192.
    """
    side = len(image)
    step, factor = max(1, side // THUMBNAIL), max(1, round(THUMBNAIL / side))
    repeated = image[::step, ::step].repeat(factor, axis=0).repeat(factor, axis=1)
    return np.ascontiguousarray(np.broadcast_to(repeated, (*repeated.shape[:2], 3)))


def _about(row: Row, num_ranks: int) -> str:
    """The explanation above the images of a method."""
    uncovered = ", ".join(map(_one_line, row.uncovered)) or "none"
    groups = row.groups_are or ("classes" if row.consulted_labels else "clusters")
    text = (
        f"training labels used: {'yes' if row.consulted_labels else 'no'}; uncovered classes:"
        f" {uncovered}. {len(row.groups)} {groups}"
    )
    if num_ranks > 1:
        text += f"; ranks 1 to {num_ranks} from top to bottom, rank {row.rank} is selected"
    selected = _selected(row)
    if len(set(selected)) < len(selected):
        text += "; framed and counted: several selected images of one class"
    return f"{text}. Score: {row.score_name}."


def _selected(row: Row) -> list[str]:
    """The class names of the selected images."""
    return [group[row.rank - 1].class_name for group in row.groups]


def _wrap(text: str, width: float, font: "ImageFont.FreeTypeFont") -> list[str]:
    """Lines of at most this width, except for longer single words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cut(text: str, width: float, font: "ImageFont.FreeTypeFont") -> str:
    """As much of a string as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _even(count: int, most: int) -> int:
    """The length of lines when `count` is broken into as few as possible, equally long ones."""
    lines = -(-count // most)
    return -(-count // lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())
