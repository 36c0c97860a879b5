"""Which augmentation a view is made by."""

import pytest
import torch

from boss.augment import CTAugment, Cutout, RandAugment, Views, Weak, to_float
from boss.errors import InputError
from boss.seeds import stream
from boss.study.run import AUGMENTATIONS

NUM = 64


def views_of(augmentation, **changes):
    return Views(augmentation, **({"size": 8, "flip": True, "device": "cpu"} | changes))


def strong(augmentation, images):
    return made_by(views_of(augmentation), "strong", images)


def made_by(views, kind, images):
    return views.view(kind, images, views.draw(kind, len(images), stream("draws")))


@pytest.fixture
def images(digits):
    return digits.train.images[:NUM].clamp(min=1)  # nothing is black but what an operation fills


def test_views_are_what_the_table_says(images):
    """Every policy written out with its parts, from the same draws."""
    weak, flip = Weak(8, flip=True, device="cpu"), Weak(8, flip=True, device="cpu", pad=0)
    cutout = Cutout(8, device="cpu")

    def base(generator, transform=weak):
        return transform(images, transform.draw(NUM, generator))

    def randaugment(generator, side):
        policy = RandAugment(8, device="cpu", cutout=side)
        x = base(generator)
        return to_float(*policy(x, policy.draw(NUM, generator)))

    def ctaugment(generator, **changes):
        policy = CTAugment(8, device="cpu", **changes)
        x = base(generator)
        return to_float(policy(x, policy.draw(NUM, generator)))

    def cut(generator):
        x = base(generator)
        return to_float(x, cutout(cutout.draw(NUM, generator))[:, None] == 0)

    expected = {
        "randaugment": lambda g: randaugment(g, None),
        "randaugment-without-cutout": lambda g: randaugment(g, 0),
        "ctaugment": lambda g: ctaugment(g),
        "ctaugment-without-cutout": lambda g: ctaugment(g, cutout=False),
        "ctaugment-paper": lambda g: ctaugment(g, translation="paper"),
        "cutout": cut,
        "weak": lambda g: to_float(base(g)),
        "flip": lambda g: to_float(base(g, flip)),
        "none": lambda g: to_float(images),
    }
    assert expected.keys() == set(AUGMENTATIONS)
    results = {name: strong(name, images) for name in AUGMENTATIONS}
    for name, made in expected.items():
        assert torch.equal(results[name], made(stream("draws"))), name
    names = list(results)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not torch.equal(results[one], results[other]), (one, other)


def test_weak_and_unaugmented_views_do_not_depend_on_the_policy(images):
    for kind in ("weak", "none"):
        made = [made_by(views_of(name), kind, images) for name in AUGMENTATIONS]
        assert all(torch.equal(made[0], other) for other in made[1:])
    assert torch.equal(made_by(views_of("weak"), "none", images), to_float(images))


def test_flips_only_mirror(images):
    flipped = strong("flip", images)
    same = (flipped == to_float(images)).flatten(1).all(1)
    mirrored = (flipped == to_float(images.flip(3))).flatten(1).all(1)
    assert (same | mirrored).all()
    assert same.any() and mirrored.any()
    without = made_by(views_of("flip", flip=False), "strong", images)
    assert torch.equal(without, to_float(images))


def test_cutout_cuts_a_square_of_gray(images):
    holes = strong("cutout", images.fill_(200)) == 0
    assert holes.flatten(1).sum(1).max() == 16
    assert (holes.flatten(1).sum(1) > 0).all()


def test_a_distorted_weak_view_is_a_strong_view(images):
    for name in set(AUGMENTATIONS) - {"flip", "none"}:  # which start from no weak view
        views, generator = views_of(name), stream("draws")
        weak = views.weak(images, views.draw_weak(NUM, generator))
        made = views.distort(weak, views.draw_strong(NUM, generator))
        assert torch.equal(made, strong(name, images)), name


def test_the_type_of_a_view(images):
    for name in AUGMENTATIONS:
        view = made_by(views_of(name, dtype=torch.float64), "strong", images)
        assert view.dtype == torch.float64
        assert view.shape == images.shape


def test_the_rates_are_the_state(images):
    views = views_of("ctaugment")
    draws = views.ctaugment.draw_probe(NUM, stream("probe"))
    views.ctaugment.update(draws, torch.rand(NUM, generator=stream("rate")))
    other = views_of("ctaugment")
    assert not torch.equal(other.ctaugment.rates, views.ctaugment.rates)
    other.load_state_dict(views.state_dict())
    assert torch.equal(other.ctaugment.rates, views.ctaugment.rates)
    assert views_of("randaugment").state_dict() == {}
    views_of("randaugment").load_state_dict({})


def test_unknown_policies_are_refused():
    with pytest.raises(InputError, match="unknown augmentation 'autoaugment': choose from rand"):
        views_of("autoaugment")
    with pytest.raises(InputError, match="pad must be from 0 to 7, got 8"):
        Weak(8, flip=True, device="cpu", pad=8)
