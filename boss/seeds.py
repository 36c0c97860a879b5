"""Named, independent random streams. The library never touches a global generator.

A stream is a torch generator whose seed is the SHA-256 of what it is for. So a stream does not
depend on how many others there are or on how much was drawn from them, and adding one changes
nothing else.
"""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

PURPOSES = (
    "labeled order",  # which labeled images make a batch
    "labeled augmentation",  # crops and flips of the labeled images
    "unlabeled augmentation",  # every view of the unlabeled images
    "algorithm",  # whatever an algorithm draws itself (mixing coefficients, say)
    "probes",  # the distortions by which CTAugment learns its rates
)


def seed_of(*key: object) -> int:
    """A 63-bit seed: the first bytes of the SHA-256 of the key's parts, in order."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is a function of its key, for example (label_set, repeat, purpose)."""
    return torch.Generator(device).manual_seed(seed_of(*key))


class Streams:
    """The streams that a training draws from at every step: one for each of `PURPOSES`.

    A function of the key (`Run.stream_key`) and of the kind of device they live on, and of nothing
    else. They live where the images are, so that drawing never waits for a copy.
    """

    def __init__(self, *key: object, device: torch.device) -> None:
        self._generators = {purpose: stream(*key, purpose, device=device) for purpose in PURPOSES}

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def __iter__(self) -> Iterator[torch.Generator]:
        return iter(self._generators.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every stream, by purpose."""
        return {purpose: g.get_state() for purpose, g in self._generators.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue every stream where `state_dict` was taken."""
        assert state.keys() == self._generators.keys()
        for purpose, generator in self._generators.items():
            generator.set_state(state[purpose].cpu())


class EpochOrder:
    """Which images make the batch of a step: every image once per epoch, in a fresh order.

    A batch may straddle epochs. The order is a function of (key, epoch), so there is no state to
    save. The reference shuffles a repeated file through a window of 8,192 images, which amounts to
    nearly the same on 50,000.

    Args:
        num_images: in an epoch (N).
        batch_size: indices per step (U).
        key: of the random stream.
    """

    def __init__(
        self, num_images: int, batch_size: int, *key: object, device: torch.device
    ) -> None:
        self.num_images, self.batch_size, self.key, self.device = (
            num_images,
            batch_size,
            key,
            device,
        )
        self._epochs: dict[int, Tensor] = {}

    def __getitem__(self, step: int) -> Tensor:
        """Positions in the set (U,), on the device."""
        if self.batch_size == 0:
            return torch.empty(0, dtype=torch.int64, device=self.device)
        start = step * self.batch_size
        first, offset = divmod(start, self.num_images)
        last = (start + self.batch_size - 1) // self.num_images
        if any(epoch not in self._epochs for epoch in range(first, last + 1)):
            self._epochs = {
                epoch: self._epochs[epoch] if epoch in self._epochs else self._shuffle(epoch)
                for epoch in range(first, last + 1)
            }
        if first == last:
            return self._epochs[first][offset : offset + self.batch_size]
        joined = torch.cat([self._epochs[epoch] for epoch in range(first, last + 1)])
        return joined[offset : offset + self.batch_size]

    def _shuffle(self, epoch: int) -> Tensor:
        # Drawn where it is used: a copy from the host would wait for the device.
        generator = stream(*self.key, epoch, device=self.device)
        return torch.randperm(self.num_images, generator=generator, device=self.device)
