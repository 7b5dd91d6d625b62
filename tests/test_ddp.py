"""Modules of ``fasttrack.nn`` under DistributedDataParallel: two processes see what one would of both their batches."""

import socket

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from fasttrack import nn


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.normal, self.pool = nn.ReLULRNMaxPool(3, alpha=0.1, pool=2), nn.PrRoIPool2D(2, 2, 1.0)
        self.mix = torch.nn.Conv2d(3, 4, 3)
        self.regress = nn.ConvRegression(4, (3, 2))
        self.loss = nn.ShrinkageLoss(reduction="mean")
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=random) * 0.3)

    def forward(self, images, target):
        maps = self.normal(self.mix(images))
        rois = torch.tensor([[0.0, 0.5, 0.5, 3.0, 3.5]]).repeat(len(images), 1)
        rois[:, 0] = torch.arange(len(images))
        pooled = self.pool(maps, rois).mean((1, 2, 3))
        return self.loss(self.regress(maps) + pooled[:, None, None], target)


def batch(rows):
    random = torch.Generator().manual_seed(1)
    images, targets = (torch.randn(4, *s, generator=random) for s in ((3, 12, 12), (3, 4)))
    return images[rows], targets[rows]


def work(rank, port, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = DistributedDataParallel(Small())
    model(*batch(slice(2 * rank, 2 * rank + 2))).backward()
    torch.save([p.grad for p in model.parameters()], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available() or not distributed.is_gloo_available(), reason="torch without gloo")
def test_two_processes_learn_as_one_of_both_batches(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    model = Small()
    model(*batch(slice(0, 4))).backward()
    alone = Small()
    alone(*batch(slice(0, 2))).backward()
    assert len(first) == 4
    for a, b, p, q in zip(first, second, model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
        scale = float(p.grad.abs().max())
        assert scale > 0
        assert float((a - p.grad).abs().max()) <= 1e-5 * scale
        assert float((q.grad - p.grad).abs().max()) > 1e-3 * scale, "half of the batch would have passed"
