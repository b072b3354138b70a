"""The networks of MIST have the layers, parameters and receptive fields of their sources."""

import pytest
import torch
from torch.nn import functional as F

from wsl_tutorial import patches
from wsl_tutorial.reproduce.patches import networks


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def count(model):
    return sum(p.numel() for p in model.parameters())


def block(c):
    return 2 * (9 * c * c + c) + 2 * c  # two convolutions, one shared normalisation


def test_parameters_are_the_released_ones():
    assert count(networks.Heatmap(3)) == 3 * 2 + 3 * 32 + 32 + 4 * block(32) + 33 == 74_407
    assert count(networks.Heatmap(1)) == 74_339
    assert count(networks.Classifier(channels=3)) == 2_096_698
    widths, at = (8, 16, 32, 64, 128), 3
    expected = 0
    for c in (*widths, 128):
        expected += at * c + c + 3 * block(c)
        at = c
    assert expected + 128 * 10 + 10 == 2_096_698


def test_decoder_mirrors_the_encoder():
    ae = networks.AutoEncoder()
    ups = sum(4 * a * b + b for a, b in ((128, 128), (128, 64), (64, 32), (32, 16), (16, 8)))
    expected = ups + sum(3 * block(c) for c in (128, 64, 32, 16, 8)) + 9
    assert count(ae.decoder) == expected
    assert 1.28e6 < expected < 1.31e6
    x = torch.rand(2, 1, 32, 32)
    assert ae.encoder(x).shape == (2, 128)
    assert ae(x).shape == x.shape
    linear = networks.AutoEncoder(bounded=False)
    linear.load_state_dict(ae.state_dict())
    torch.testing.assert_close(linear(x).sigmoid(), ae(x))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_score_sees_so_many_pixels(blocks):
    """Without the normalisations, which use the whole map, a score sees 4 blocks + 1 pixels."""
    net = networks.Heatmap(1, 4, blocks)
    for m in net.modules():
        if isinstance(m, networks.Block):
            m.norm = torch.nn.Identity()
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.constant_(m.weight, 0.1)
            torch.nn.init.zeros_(m.bias)  # everything is positive: no ReLU hides a pixel
    net.eval()
    x = torch.rand(1, 1, 40, 40, requires_grad=True)
    net(x)[0, 0, 20, 20].backward()
    seen = x.grad[0, 0].nonzero()
    reach = 2 * blocks
    assert seen.amin(0).tolist() == [20 - reach] * 2
    assert seen.amax(0).tolist() == [20 + reach] * 2


def test_heat_map_has_the_size_of_the_image():
    for outputs in (1, 5):
        net = networks.Heatmap(1, 4, 2, outputs)
        assert net(torch.rand(2, 1, 17, 31)).shape == (2, outputs, 17, 31)


def test_block_is_a_shortcut_around_two_convolutions():
    """The block equals the same layers in functional form."""
    b = networks.Block(3, padding=0)
    x = torch.randn(2, 3, 9, 9)
    h = F.conv2d(x, b.first.weight, b.first.bias)
    h = F.relu(F.group_norm(h, 1, b.norm.weight, b.norm.bias))
    h = F.conv2d(h, b.second.weight, b.second.bias)
    h = F.group_norm(h, 1, b.norm.weight, b.norm.bias)
    torch.testing.assert_close(b(x), F.relu(h + x[:, :, 2:-2, 2:-2]))
    assert networks.Block(3)(x).shape == x.shape


def test_candidates_lie_in_their_cells():
    net = networks.Candidates(1, 4, 1, stride=8)
    scores, offsets = net(torch.rand(2, 1, 40, 32))
    assert scores.shape == (2, 20)
    assert offsets.shape == (2, 20, 2)
    assert offsets.abs().max() < 4
    # the score of a cell is read from that cell: brighten one and only its surroundings change
    net.eval()
    for m in net.modules():
        if isinstance(m, networks.Block):
            m.norm = torch.nn.Identity()
    x = torch.zeros(1, 1, 40, 40)
    for m in net.modules():  # everything is positive: no ReLU hides the change
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.constant_(m.weight, 0.1)
    before, _ = net(x)
    x[0, 0, 11:13, 19:21] = 1  # row 1, column 2 of 5
    changed = (net(x)[0] != before).nonzero()[:, 1].tolist()
    assert changed == [7]


def test_diary_is_a_running_mean_in_the_checkpoint():
    pair = networks.Pair(None, torch.nn.Linear(1, 1))
    for _ in range(400):
        pair.note(*torch.tensor([1.0, 2.0, 3.0]))
    assert pair.state_dict()["diary"].tolist() == pytest.approx([1, 2, 3], rel=1e-3)


# Attend, infer, repeat ----------------------------------------------------------------------------


def test_divergences_are_those_of_torch():
    from torch import distributions as d

    mean, raw = torch.randn(2, 6, 4, generator=gen()).unbind(0)
    _, kl = networks.gaussian(mean, raw, True)
    expected = d.kl_divergence(d.Normal(mean, raw.exp()), d.Normal(0, 1)).sum(1)
    torch.testing.assert_close(kl, expected)
    air = networks.Air(16, 2, 8, 4, 8, present=0.3)
    logit = torch.randn(50, generator=gen(1))
    _, kl = air.presence(logit)
    expected = d.kl_divergence(d.Bernoulli(logits=logit), d.Bernoulli(torch.tensor(0.3)))
    torch.testing.assert_close(kl, expected)


def test_relaxed_presence_has_the_right_probability():
    air = networks.Air(16, 2, 8, 4, 8)
    torch.manual_seed(0)
    on, _ = air.presence(torch.full((20_000,), 0.7))
    share = (on > 0.5).double().mean().item()
    assert share == pytest.approx(torch.tensor(0.7).sigmoid().item(), abs=0.01)
    air.eval()
    assert air.presence(torch.tensor([-0.1, 0.1]))[0].tolist() == [0, 1]


def test_absent_objects_draw_nothing_and_cost_only_their_absence():
    air = networks.Air(16, 3, 8, 4, 8).eval()
    with torch.no_grad():
        air.head.bias[0] = -30  # never one more
        air.head.weight[0] = 0
    canvas, divergence = air(torch.rand(2, 1, 16, 16))
    assert (canvas == 0).all()
    assert divergence.tolist() == pytest.approx([torch.tensor(2.0).log().item()] * 2, rel=1e-5)


def test_drawn_objects_stand_in_their_boxes():
    air = networks.Air(32, 1, 8, 4, 8, side=0.25).eval()
    with torch.no_grad():
        air.head.weight.zero_()
        air.head.bias.copy_(torch.tensor([30.0, 0, 0, 0, 0, 0, 0]))
    canvas, _ = air(torch.rand(1, 1, 32, 32))
    lit = canvas[0, 0].nonzero()
    place = air.places(torch.zeros(1, 3))[0, 0]
    assert place.tolist() == pytest.approx([15.5, 15.5, 8])
    box = patches.place(torch.ones(1, 1, 1, 8, 8), place[None, None], (32, 32))[0, 0, 0].nonzero()
    assert lit.tolist() == box.tolist()


@pytest.mark.parametrize(("width", "size"), [(4, 6), (8, 5), (16, 3), (32, 2)])
def test_norm_is_group_normalisation_with_one_group(width, size):
    x = torch.randn(3, width, size, size + 1, dtype=torch.float64, generator=gen())
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = networks.Norm(width).double()
    torch.nn.init.normal_(norm.weight, generator=gen(1))
    torch.nn.init.normal_(norm.bias, generator=gen(2))
    pull = torch.randn(x.shape, dtype=torch.float64, generator=gen(3))
    wanted = F.group_norm(x, 1, norm.weight, norm.bias, norm.eps)
    made = norm(x)
    torch.testing.assert_close(made, wanted)
    leaves = (x, norm.weight, norm.bias)
    both = (torch.autograd.grad(y, leaves, pull) for y in (made, wanted))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b)
    assert list(norm.state_dict()) == list(torch.nn.GroupNorm(1, width).state_dict())
