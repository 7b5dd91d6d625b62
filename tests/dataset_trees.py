"""Small folders in the shapes of the datasets. Images are empty files: reading a dataset must not open them."""

import numpy as np


def images(folder, numbers, form="{:04d}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / form.format(number)).touch()


def rows(count, start=10):
    """Rows x, y, w, h of whole numbers, no two alike."""
    return np.array([[start + i, start + 2 * i, 20 + i, 30 + i] for i in range(count)], float)


def write(path, table, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(f"{value:g}" for value in row) + "\n" for row in table))


def otb(root, name, numbers=range(1, 4), count=None, truth="groundtruth_rect.txt", separator=",", form="{:04d}.jpg"):
    images(root / name / "img", numbers, form)
    table = rows(len(numbers) if count is None else count)
    write(root / name / truth, table, separator)
    return table


def minus(table, base):
    return table - [base, base, 0, 0]


def numbers_of(sequence):
    """Names of a sequence's images without their suffix."""
    return [path.stem for path in sequence.frames.paths]
