"""Contact sheets of the labeled images: a row per label set, a column per class."""

import io
import textwrap

import matplotlib.image
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..load import Results, labeled_images
from ..naming import natural
from ..page.parts import Part, Picture, suffixes
from ..style import GRAY, LIGHT, set_title, unbroken
from ..tables import counts_text

ROWS_PER_PAGE = 16  # of a contact sheet, more where one label set has more
MAX_PER_CLASS = 5  # images; label sets with more are not drawn
MAX_CLASSES = 20  # columns


# What they look like


def sheet_rows(images: pd.DataFrame) -> pd.DataFrame:
    """The position of each labeled image: one row per label set, more if a class has several.

    Args:
        images: `load.labeled_images` of one data set.

    Returns:
        their columns, place (0, 1, ... among those of its class and label set) and row (in the
        order of the label sets), without the label sets that have more than `MAX_PER_CLASS` of one
        class.
    """
    place = images.groupby(["label_set", "class_name"], sort=False).cumcount()
    images = images.assign(place=place)
    most = images.groupby("label_set", sort=False)["place"].transform("max")
    images = images[most < MAX_PER_CLASS]
    rows = images[["label_set", "place"]].drop_duplicates()
    position = {name: i for i, name in enumerate(images["label_set"].drop_duplicates())}
    order = sorted(
        rows.itertuples(index=False, name=None), key=lambda row: (position[row[0]], row[1])
    )
    numbers = {row: i for i, row in enumerate(order)}
    keys = zip(images["label_set"], images["place"], strict=True)
    return images.assign(row=[numbers[key] for key in keys])


def sheet_pages(rows: pd.DataFrame) -> "pd.Series[int]":
    """The page of each image of `sheet_rows`; a label set stays on one page."""
    page, num_rows, pages = 0, 0, {}
    for name, count in rows.groupby("label_set", sort=False)["row"].nunique().items():
        if num_rows and num_rows + count > ROWS_PER_PAGE:
            page, num_rows = page + 1, 0
        pages[name] = page
        num_rows += count
    return rows["label_set"].map(pages)


def sheet_figure(images: pd.DataFrame, classes: list[str], title: str, subtitle: str) -> Figure:
    """The labeled images: a row per label set, a column per class, the position below.

    Args:
        images: `sheet_rows` of one page.
        classes: the names of the columns.
    """
    first = int(images["row"].min())
    num_rows = int(images["row"].max()) - first + 1
    starts = images.drop_duplicates("row").set_index("row")
    names = starts["label_set"].where(starts["place"] == 0, "")
    cell, below, above, left, margin = 0.62, 0.19, 0.75, 1.75, 0.1  # inches
    longest = max(len(name) for name in classes)
    head = 0.25 if longest <= 10 else 0.05 * longest + 0.2
    inside = (cell * len(classes), num_rows * (cell + below))
    width, height = left + inside[0] + margin, above + head + inside[1] + margin
    figure = Figure(figsize=(width, height))
    set_title(figure, title, subtitle, inches_above=margin)
    axis = figure.add_axes((left / width, margin / height, inside[0] / width, inside[1] / height))
    high = (cell + below) / cell  # of a row, in widths of a cell
    axis.set_xlim(0, len(classes))
    axis.set_ylim(num_rows * high, 0)
    axis.set_axis_off()
    for place, name in enumerate(classes):
        axis.text(
            place + 0.47,
            -0.08,
            name,
            fontsize=7.5,
            ha="center" if longest <= 10 else "left",
            va="bottom",
            rotation=0 if longest <= 10 else 45,
        )
    for row in range(num_rows):
        text = "\n".join(textwrap.wrap(str(names.loc[first + row]), 24))
        axis.text(-0.12, row * high + 0.47, text, fontsize=7.5, ha="right", va="center")
    for image in images.itertuples():
        if image.class_name not in classes:
            continue
        x, y = classes.index(str(image.class_name)), (int(str(image.row)) - first) * high
        pixels = matplotlib.image.imread(io.BytesIO(image.image), format="png")  # type: ignore[arg-type]
        axis.add_patch(Rectangle((x + 0.02, y + 0.02), 0.9, 0.9, fill=False, ec=LIGHT, lw=0.6))
        axis.imshow(
            pixels,
            extent=(x + 0.02, x + 0.92, y + 0.92, y + 0.02),
            interpolation="none",  # the PDF holds the pixels, not an enlarged copy
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect="auto",
        )
        axis.text(
            x + 0.47,
            y + 0.95,
            str(image.image_index),
            fontsize=6,
            ha="center",
            va="top",
            color=GRAY,
        )
    axis.set_xlim(0, len(classes))
    axis.set_ylim(num_rows * high, 0)
    return figure


def sheet_parts(found: Results) -> tuple[list[Part], list[str]]:
    """The labeled images of every label set, and warnings."""
    images, warnings = labeled_images(found)
    made: list[Part] = []
    datasets = list(images["dataset"].drop_duplicates())
    for dataset, end in suffixes(datasets).items() if datasets else ():
        rows = sheet_rows(images[images["dataset"] == dataset])
        if not len(rows):
            continue
        runs = found.runs[found.runs["dataset"] == dataset]
        classes = found.class_evaluations[
            found.class_evaluations["run_id"].isin(runs["run_id"])
        ].drop_duplicates("class_index")
        names = [str(name) for name in classes.sort_values("class_index")["class_name"]]
        columns, wanted = names[:MAX_CLASSES], set(runs["label_set"])
        drawn = set(rows["label_set"])
        note = f" Shown: the first {MAX_CLASSES} of {len(names)} classes."
        note *= len(names) > MAX_CLASSES
        left_out = sorted(wanted - drawn, key=natural)
        if left_out:
            note += f" Without pictures or too large: {', '.join(left_out)}."
        pages = sheet_pages(rows)
        for page in range(int(pages.max()) + 1):
            part = rows[pages == page]
            counts = counts_text(runs[runs["label_set"].isin(part["label_set"])])
            of_pages = f", page {page + 1} of {pages.max() + 1}" if pages.max() else ""
            title = f"Labeled images{of_pages}"
            text = "One row per label set, one column per class; below each image its position in "
            text += f"the training set. Label sets of {counts}.{note}"
            made.append(
                Picture(
                    f"labeled_images{end}{f'_{page + 1}' if page else ''}",
                    title,
                    text,
                    lambda part=part, columns=columns, title=title, counts=counts: (  # type: ignore[misc]
                        sheet_figure(
                            part,
                            columns,
                            title,
                            "A row per label set, a column per class; below: position in the "
                            f"training set. {unbroken(counts)}",
                        )
                    ),
                )
            )
    return made, warnings
