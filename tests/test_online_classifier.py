"""The online classifier: it separates, prefers hard negatives, repeats itself; the memory is a ring."""

import pytest
import torch
from torch import nn

from fasttrack.errors import RangeError
from fasttrack.models import ClassifierConfig, OnlineClassifier, SampleMemory


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))


def samples(count, centre, seed):
    return centre + 0.5 * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


POSITIVES, NEGATIVES = samples(200, 1.0, 0), samples(900, -1.0, 1)


def test_separates_and_repeats_itself():
    first, second = (OnlineClassifier(ClassifierConfig(), network) for _ in range(2))
    before = float(first.scores(POSITIVES).mean() - first.scores(NEGATIVES).mean())
    losses = first.train(POSITIVES, NEGATIVES, 60, 0.01)
    assert len(losses) == 60 and losses[-1] < 0.3 * losses[0]
    assert float(first.scores(POSITIVES).min()) > 0.5 > float(first.scores(NEGATIVES).max())
    assert before < 0.3  # canary: untrained it does not separate
    torch.rand(7)  # the global generator plays no part
    assert second.train(POSITIVES, NEGATIVES, 60, 0.01) == losses


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    OnlineClassifier(ClassifierConfig(), network).train(POSITIVES, NEGATIVES, 3, 0.01)
    assert torch.equal(torch.rand(3), want)


def test_hard_negatives_are_the_highest_scores():
    model = OnlineClassifier(ClassifierConfig(negatives=10, candidates=500), network)
    model.train(POSITIVES, NEGATIVES, 20, 0.01)
    drawn = torch.arange(400, 900)
    hard = model._hardest(NEGATIVES, drawn)
    scores = model.scores(NEGATIVES)
    assert set(hard.tolist()) == set((400 + scores[400:].topk(10).indices).tolist())
    assert len(model._hardest(NEGATIVES, torch.arange(7))) == 7


def test_every_sample_is_drawn_before_one_comes_again():
    model = OnlineClassifier(ClassifierConfig(), network)
    batches = model._draws(10, 4, 5)
    assert [len(b) for b in batches] == [4] * 5
    flat = torch.cat(batches)
    assert sorted(flat[:10].tolist()) == sorted(flat[10:].tolist()) == list(range(10))


def test_the_last_layer_has_its_own_rate_and_few_samples_do():
    frozen = OnlineClassifier(ClassifierConfig(last_layer_rate=0.0), network)
    start = [p.clone() for p in frozen.network.parameters()]
    frozen.train(POSITIVES[:3], NEGATIVES[:2], 4, 0.05)
    moved = [not torch.equal(a, b) for a, b in zip(start, frozen.network.parameters(), strict=True)]
    assert moved == [True, True, False, False]
    with pytest.raises(RangeError, match=r"positives.*at least one"):
        frozen.train(POSITIVES[:0], NEGATIVES, 1, 0.1)
    with pytest.raises(RangeError, match=r"negatives.*at least one"):
        frozen.train(POSITIVES, NEGATIVES[:0], 1, 0.1)


def test_dense_networks_and_no_samples():
    dense = OnlineClassifier(ClassifierConfig(), lambda: nn.Sequential(nn.Conv2d(3, 2, 1)))
    scores = dense.scores(torch.randn(2, 3, 5, 4))
    assert scores.shape == (2, 5, 4)
    assert dense.scores(torch.randn(0, 3, 5, 4)).shape == (0, 5, 4)


def test_memory_keeps_the_last_frames():
    memory = SampleMemory(3)
    for k in range(5):
        memory.add(torch.full((2, 1), float(k)))
    assert len(memory) == 3
    assert memory.last().flatten().tolist() == [2, 2, 3, 3, 4, 4]
    assert memory.last(1).flatten().tolist() == [4, 4]
    assert SampleMemory(2).last().numel() == 0
    with pytest.raises(RangeError, match="at least 1"):
        SampleMemory(0)
