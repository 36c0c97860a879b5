"""The handwritten digits that come with scikit-learn."""

import numpy as np

from boss.data.source import Arrays, Shape, Source


def read(path: None = None) -> Arrays:
    """The 1797 handwritten digits of scikit-learn, 8 x 8 gray pixels: 1201 train, 596 test.

    The pixels count 0 to 16 dots; they are scaled to 0 to 255 and rounded (half to even).
    In the order of the file, every third image of each class is a test image. The file groups its
    13 writers, so each of them is in both parts: the test asks for new images by known writers,
    as that of CIFAR-10 asks for new images from the same source. (A nearest-neighbor classifier on
    pixels reaches 99.0% on these test images; it would reach 96.5% if the last 599 images, by
    other writers, were the test images.)

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    y = bunch.target.astype(np.int64)
    position = np.empty(len(y), dtype=np.int64)  # within the class
    for label in range(10):
        position[y == label] = np.arange(np.count_nonzero(y == label))
    test = position % 3 == 2
    return Arrays(x[~test], y[~test], x[test], y[test], tuple("0123456789"), flip=False)


DIGITS = Source(
    name="digits",
    summary="handwritten digits that come with scikit-learn (Alpaydin and Kaynak 1998)",
    shape=Shape(channels=1, size=8, num_classes=10),
    num_train=1201,
    num_test=596,
    read=read,
    library="scikit-learn",
)
