import pytest
import torch

from toygan.training.losses import hinge_discriminator_loss, hinge_generator_loss


def test_discriminator_by_hand() -> None:
    """Real 2, 0.5, -1: (0 + 0.5 + 2) / 3; generated -2, 0, 1: (0 + 1 + 2) / 3; together 5.5 / 3."""
    real = torch.tensor([2.0, 0.5, -1.0], requires_grad=True)
    generated = torch.tensor([-2.0, 0.0, 1.0], requires_grad=True)
    loss = hinge_discriminator_loss(real, generated)
    assert loss.item() == pytest.approx(5.5 / 3)
    loss.backward()
    # Whoever is beyond the margin pulls no more.
    assert real.grad is not None
    assert generated.grad is not None
    assert real.grad.tolist() == pytest.approx([0, -1 / 3, -1 / 3])
    assert generated.grad.tolist() == pytest.approx([0, 1 / 3, 1 / 3])


def test_generator_by_hand() -> None:
    """-(-2 + 0 + 5) / 3; the pull never ends."""
    generated = torch.tensor([-2.0, 0.0, 5.0], requires_grad=True)
    loss = hinge_generator_loss(generated)
    assert loss.item() == pytest.approx(-1)
    loss.backward()
    assert generated.grad is not None
    assert generated.grad.tolist() == pytest.approx([-1 / 3] * 3)
