"""The networks of min-max entropy: trunks, weights, heads, U-Net."""

import pytest
import torch
from torch.nn import functional as F
from torchvision import models

from wsl_tutorial.reproduce.regions import networks


@pytest.mark.parametrize("kind", ["resnet18", "resnet101"])
def test_trunk_is_torchvisions_without_its_end(kind):
    torch.manual_seed(0)
    theirs = getattr(models, kind)(num_classes=2).eval()
    ours = networks.Trunk(kind).eval()
    held = {n: v for n, v in theirs.state_dict().items() if not n.startswith("fc")}
    ours.load_state_dict(held)
    x = torch.randn(1, 3, 48, 64)
    expected = torch.nn.Sequential(*list(theirs.children())[:-2])(x)
    torch.testing.assert_close(ours(x), expected)
    assert ours.features == expected.shape[1]


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({}, (1, 512, 2, 2)),
        ({"stride": 16}, (1, 512, 4, 4)),
        ({"stride": 8}, (1, 512, 8, 8)),
        ({"width": 8, "stages": 2, "stride": 4, "pool": False}, (1, 16, 16, 16)),
        ({"width": 8, "stages": 2, "blocks": 1}, (1, 16, 8, 8)),
    ],
)
def test_trunk_options(change, shape):
    trunk = networks.Trunk(**change)
    assert trunk(torch.zeros(1, 3, 64, 64)).shape == shape
    assert trunk.features == shape[1]
    assert len(trunk.layer1) == change.get("blocks", 2)


def test_imagenet_weights_from_the_data_folder_are_named_quantised(monkeypatch, tmp_path):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))
    held = networks.Trunk().half().state_dict()
    torch.save(held, tmp_path / networks.QUANTISED)
    found, quantised = networks.imagenet("resnet18")
    assert quantised
    networks.Trunk().load_state_dict(found)
    assert found["conv1.weight"].dtype == torch.float32


def test_imagenet_weights_else_come_from_torchvision(monkeypatch, tmp_path):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))
    asked = []

    def get_state_dict(weights, **options):
        asked.append((weights, options))
        return {}

    official = models.ResNet101_Weights
    monkeypatch.setattr(official, "get_state_dict", get_state_dict)
    assert networks.imagenet("resnet101") == ({}, False)
    assert asked == [(official.IMAGENET1K_V1, {"progress": False, "check_hash": True})]


def test_class_maps_are_means_of_their_modes():
    head, x = networks.Maps(4, 3, modes=2), torch.randn(2, 4, 5, 6)
    raw = head.conv(x)
    torch.testing.assert_close(head(x)[:, 1], (raw[:, 2] + raw[:, 3]) / 2)


@pytest.mark.parametrize("gated", [False, True])
def test_attention_has_a_branch_for_each_class(gated):
    torch.manual_seed(0)
    head, x = networks.Attention(4, 3, hidden=5, gated=gated), torch.randn(2, 4, 3, 2)
    attention, logits = head(x)
    hidden = head.v(x).tanh() * (head.gate(x).sigmoid() if gated else 1)
    expected = head.w(hidden).flatten(2).softmax(2)
    torch.testing.assert_close(attention.flatten(2), expected)
    for k in range(3):
        mean = (x.flatten(2) * expected[:, k : k + 1]).sum(2)
        by_hand = mean @ head.unit.weight[k] + head.unit.bias[k]
        torch.testing.assert_close(logits[:, k], by_hand)


@pytest.mark.parametrize("size", [(32, 32), (33, 45)])
def test_u_net_answers_at_every_pixel_of_any_size(size):
    net = networks.UNet(width=4, levels=3).eval()
    x = torch.randn(1, 3, *size)
    out = net(x)
    assert out.shape == (1, 2, *size)
    for k in (0, size[0] - 1):  # and each pixel sees itself
        changed = x.clone()
        changed[..., k, 5] += 10
        assert (net(changed) - out)[..., k, 5].abs().max() > 1e-6


def test_frozen_statistics_stay():
    pair = networks.Pair(networks.Trunk(width=4, stages=1))
    pair.frozen = True
    pair.train()
    before = pair.trunk.bn1.running_mean.clone()
    pair.trunk(torch.randn(2, 3, 16, 16))
    assert torch.equal(before, pair.trunk.bn1.running_mean)
    assert pair.trunk.training
    pair.frozen = False
    pair.train()
    pair.trunk(torch.randn(2, 3, 16, 16))
    assert not torch.equal(before, pair.trunk.bn1.running_mean)


def test_the_diary_counts_looks_that_were_not_made_as_not_trusted():
    pair = networks.Pair(torch.nn.Identity())
    pair.accepted.fill_(1)
    pair.note(torch.tensor([[0.9, 0.0], [0.0, 0.0]]))
    assert pair.accepted.tolist() == pytest.approx([0.975, 0.95, 0.95, 0.95, 0.95])


def test_the_share_of_an_epoch_is_free_of_the_start_of_the_running_mean():
    """Epochs of nine steps: first without erasing, then with constant shares, then with any."""
    pair, running, drawn = networks.Pair(torch.nn.Identity()), [], []
    g = torch.Generator().manual_seed(0)
    for trusted in (None, 8, 4, -1):
        for _ in range(9 * (trusted is not None)):
            number = trusted if trusted >= 0 else int(torch.randint(9, (), generator=g))
            pair.note((torch.arange(8) < number).double()[None])
            drawn.append(number / 8)
        running.append(pair.accepted[0].item())
    found = networks.epoch_shares(torch.tensor(running), [1, 2, 3, 4], 9).tolist()
    weights = [0.95**k for k in reversed(range(9))]
    last = sum(w * x for w, x in zip(weights, drawn[-9:], strict=True)) / sum(weights)
    assert running[1] < 0.4  # the epoch in which all looks are trusted
    assert found == pytest.approx([0, 1, 0.5, last], abs=1e-5)
    kept = networks.epoch_shares(torch.tensor([running[2]]), [3], 9).item()
    assert kept == pytest.approx(running[2] / (1 - 0.95**27))


def test_trunk_learns():
    """Dark images from bright ones, in a few steps."""
    torch.manual_seed(0)
    trunk = networks.Trunk(width=4, stages=1)
    head = networks.Maps(trunk.features, 2)
    adam = torch.optim.Adam([*trunk.parameters(), *head.parameters()], 0.01)
    y = torch.arange(16) % 2
    x = torch.randn(16, 3, 16, 16) + y[:, None, None, None] * 2
    for _ in range(30):
        adam.zero_grad()
        loss = F.cross_entropy(head(trunk(x)).mean((2, 3)), y)
        loss.backward()
        adam.step()
    assert loss < 0.1
