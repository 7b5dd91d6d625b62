import torch
from torch import nn


def waves(*shape, step):
    """Weights that need no file and no random numbers."""
    count = torch.Size(shape).numel()
    return (torch.cos(step * torch.arange(count, dtype=torch.float64)) / count**0.5).view(shape)


class Block(nn.Module):
    """A linear layer on pooled maps, with ReLU."""

    def __init__(self, channels, cells, outputs, step):
        super().__init__()
        self.linear = nn.Linear(channels * cells * cells, outputs)
        with torch.no_grad():
            self.linear.weight.copy_(waves(*self.linear.weight.shape, step=step))
            self.linear.bias.fill_(0.1)

    def forward(self, x):
        return torch.relu(self.linear(x.flatten(1)))
