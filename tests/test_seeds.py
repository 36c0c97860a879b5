"""Random streams: named, independent, resumable."""

import torch

from boss.seeds import PURPOSES, EpochOrder, Streams, seed_of, stream

CPU = torch.device("cpu")


def draw(generator):
    return torch.randint(1 << 30, (8,), generator=generator).tolist()


def test_a_stream_is_a_function_of_its_key():
    assert draw(stream("boss:3", 1, "x")) == draw(stream("boss:3", 1, "x"))
    keys = [("boss:3", 1, "x"), ("boss:3", 2, "x"), ("boss:4", 1, "x"), ("boss:3", 1, "y")]
    assert len({tuple(draw(stream(*key))) for key in keys}) == 4
    # The parts are told apart: ("a", "bc") is not ("ab", "c").
    assert seed_of("a", "bc") != seed_of("ab", "c")
    assert seed_of("fixmatch:3@10", 1) == 3306375088467944264  # the same on every machine


def test_streams_differ_by_purpose_and_do_not_disturb_each_other():
    streams = Streams("boss:3", 0, device=CPU)
    assert len({tuple(draw(streams[p])) for p in PURPOSES}) == len(PURPOSES)
    other = Streams("boss:3", 0, device=CPU)
    for _ in range(5):
        draw(other["labeled order"])
    draw(other["algorithm"])
    assert draw(other["algorithm"]) == draw(streams["algorithm"])


def test_streams_resume():
    streams = Streams("boss:3", 0, device=CPU)
    draw(streams["algorithm"])
    state = {k: v.clone() for k, v in streams.state_dict().items()}
    expected = [draw(streams[p]) for p in PURPOSES]
    resumed = Streams("boss:4", 7, device=CPU)
    resumed.load_state_dict(state)
    assert [draw(resumed[p]) for p in PURPOSES] == expected


def test_every_image_comes_once_per_epoch_in_a_fresh_order():
    order = EpochOrder(10, 4, "key", device=CPU)
    stream_of_images = torch.cat([order[step] for step in range(15)]).tolist()  # 60 = 6 epochs
    epochs = [stream_of_images[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_order_of_a_step_does_not_depend_on_the_steps_before():
    straight, jumping = (EpochOrder(10, 7, "key", device=CPU) for _ in range(2))
    batches = [straight[step].tolist() for step in range(12)]
    for step in (11, 3, 4, 0, 9):
        assert jumping[step].tolist() == batches[step]


def test_a_batch_may_span_several_epochs():
    batch = EpochOrder(3, 10, "key", device=CPU)[1]
    assert len(batch) == 10
    assert torch.bincount(batch).min() >= 3
