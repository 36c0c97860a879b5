"""Optimizers of torch.optim as the reference uses them, and schedules of the learning rate."""

from torch import nn, optim

from boss.training.muon import Muon

# With beta2 = 0 Adam divides by the size of the last gradient alone; the reference's ablation
# then adds this much to it, otherwise 1e-8.
EPSILON_WITHOUT_BETA2 = 1e-4


def make_optimizer(
    name: str,
    parameters: list[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    beta2: float,
    weight_decay: float,
    in_bf16: bool = False,
) -> optim.Optimizer:
    """An optimizer in which kernels decay, and biases and batch norm do not.

    The reference adds an L2 loss over kernels, whose gradient goes through momentum and, with adam
    and adagrad, through their scaling; adamw takes learning rate * decay off the kernels directly,
    as the reference's Adam family does.

    Args:
        name: one of `boss.study.run.OPTIMIZERS`.
        momentum: of sgd and muon; beta 1 of adam and adamw.
        in_bf16: whether the passes of the training are; for muon.

    Deviations: with asgd (averaged SGD, Polyak and Juditsky 1992) the teacher is the mean of the
    weights of all steps, by torch.optim.swa_utils; torch.optim.ASGD would wait for the device.
    TensorFlow's Adam adds epsilon before it corrects the bias of the second moment, torch's
    afterwards; they differ in the first steps, where gradients are as small as epsilon.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match name:
        case "sgd" | "asgd":  # that the second is averaged is the trainer's business
            return optim.SGD(
                groups,
                lr=learning_rate,
                momentum=momentum,
                nesterov=nesterov and momentum > 0,
                fused=True,
            )
        case "adagrad":
            # One by one it would ask the device for the learning rate.
            return optim.Adagrad(groups, lr=learning_rate, foreach=True)
        case "adam" | "adamw":
            kind = optim.Adam if name == "adam" else optim.AdamW
            epsilon = 1e-8 if beta2 > 0 else EPSILON_WITHOUT_BETA2
            optimizer = kind(
                groups,
                lr=learning_rate,
                betas=(momentum, beta2),
                eps=epsilon,
                fused=True,
                capturable=all(p.is_cuda for p in parameters),
            )
            # It would warn of every training whose first steps are not replayed from a graph.
            optimizer._warned_capturable_if_run_uncaptured = True
            return optimizer
        case "muon":
            return Muon(
                [p for p in parameters if p.ndim == 4],
                [p for p in parameters if p.ndim in (2, 3)],
                [p for p in parameters if p.ndim <= 1],
                learning_rate=learning_rate,
                momentum=momentum,
                weight_decay=weight_decay,
                in_bf16=in_bf16,
            )
        case _:
            raise AssertionError(name)
