"""What batch norm sees."""

import pytest
import torch
from torch import nn

from boss.forward import frozen_statistics, interleave, joint, separate_passes
from boss.seeds import stream


def norm_of(values):
    """Batch norm with momentum 0.5 that has seen nothing."""
    norm = nn.BatchNorm1d(1, momentum=0.5, affine=False, eps=1e-12).double()
    return norm, torch.tensor(values, dtype=torch.float64)[:, None]


def normed_network(seed="network"):
    """What it says of an image depends on the other images of the pass."""
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=stream(seed))
    return network


def interleaved_by_loop(parts):
    """Row r of part i belongs to slice s of it; slices 0 and i of the parts 0 and i trade places.

    The passes as lists of (part, row): where each row of each pass comes from.
    """
    num, size = len(parts), len(parts[0])
    slice_of = [s for s in range(num) for _ in range(size // num + (s >= num - size % num))]
    passes = [[None] * size for _ in range(num)]
    for i in range(num):
        for r, s in enumerate(slice_of):
            goes_to = s if i == 0 else 0 if s == i else i
            passes[goes_to][r] = (i, r)
    return passes


def test_frozen_passes_use_their_own_statistics_and_move_none():
    norm, x = norm_of([1.0, 3.0])
    with frozen_statistics(norm):
        out = norm(x)
    assert out.flatten().tolist() == pytest.approx([-1.0, 1.0])  # mean 2, standard deviation 1
    assert norm.running_mean.item() == 0
    assert norm.running_var.item() == 1
    assert norm.num_batches_tracked == 0
    norm(x)
    assert norm.running_mean.item() == 1.0  # half of 2: the pass after it moves them as always
    assert norm.num_batches_tracked == 1


def test_a_network_in_evaluation_mode_is_frozen_on_batch_statistics_and_comes_back():
    norm, x = norm_of([1.0, 3.0])
    network = nn.Sequential(norm).eval()
    with frozen_statistics(network):
        assert network(x).flatten().tolist() == pytest.approx([-1.0, 1.0])
    assert not norm.training
    assert norm.track_running_stats
    # The running mean is 0, the variance 1.
    assert network(x).flatten().tolist() == pytest.approx([1.0, 3.0])


def test_modes_come_back_after_an_error():
    norm, _ = norm_of([1.0])
    with pytest.raises(KeyError), frozen_statistics(norm):
        raise KeyError
    assert norm.training
    assert norm.track_running_stats


def test_gradients_flow_through_frozen_passes():
    norm, x = norm_of([1.0, 3.0, 8.0])
    x.requires_grad_()
    with frozen_statistics(norm):
        norm(x).square().mul(torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_joint_pass_normalizes_over_all_parts():
    norm, x = norm_of([1.0, 3.0, 5.0, 7.0])
    first, second = joint(norm, (x[:1], x[1:]))
    torch.testing.assert_close(torch.cat([first, second]), (x - 4) / 5**0.5)
    assert (len(first), len(second)) == (1, 3)


def test_interleaving_by_hand():
    parts = [torch.arange(5) + 10 * i for i in range(3)]  # slices of 1, 2 and 2
    first, second, third = interleave(parts)
    assert first.tolist() == [0, 11, 12, 23, 24]
    assert second.tolist() == [10, 1, 2, 13, 14]
    assert third.tolist() == [20, 21, 22, 3, 4]


@pytest.mark.parametrize(("num", "size"), [(1, 4), (2, 5), (3, 64), (8, 3), (4, 4)])
def test_interleaving_twice_changes_nothing_and_loses_no_row(num, size):
    parts = [torch.rand(size, 2, generator=stream("part", i)) for i in range(num)]
    mixed = interleave(parts)
    for back, part in zip(interleave(mixed), parts, strict=True):
        assert torch.equal(back, part)
    assert torch.equal(torch.cat(mixed).sort(0).values, torch.cat(parts).sort(0).values)


@pytest.mark.parametrize("moving", [0, 1, -1])
@pytest.mark.parametrize(("num", "size"), [(3, 7), (15, 4), (5, 5), (2, 3)])
def test_separate_passes_mix_their_rows_and_come_back_in_order(num, size, moving):
    network = normed_network()
    images = torch.randn(num * size, 4, generator=stream("images"), dtype=torch.float64)
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = separate_passes(network, images, size, moving=moving)
    plain = normed_network()
    parts = images.split(size)
    passes = interleaved_by_loop(parts)
    assert len(seen) == num
    for rows, mine in zip(passes, seen, strict=True):
        theirs = torch.stack([parts[i][r] for i, r in rows])
        assert torch.equal(mine, theirs)
        out = plain(theirs)
        for (i, r), row in zip(rows, out, strict=True):
            torch.testing.assert_close(found[i * size + r], row)
    expected = normed_network()
    expected(seen[moving])
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, expected.get_buffer(name))


def test_a_single_pass_is_no_more_than_itself():
    images = torch.randn(3, 4, generator=stream("images"), dtype=torch.float64)
    for moving in (0, -1):
        network, plain = normed_network(), normed_network()
        assert torch.equal(separate_passes(network, images, 3, moving=moving), plain(images))
        assert torch.equal(network[1].running_mean, plain[1].running_mean)
