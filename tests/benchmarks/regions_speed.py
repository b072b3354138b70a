"""Cost of recursive erasing, as ratios of one run: python tests/benchmarks/regions_speed.py

A small network whose backbone M and C share, 8 images of 96 x 96 pixels: one training step with
u = 0 and u = 4, cut from the graph and attached. Then the pooling by `topk` against a full sort, as
released, and the generator of synthetic glands. Processor time of one thread.
"""

import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from wsl_tutorial import regions
from wsl_tutorial.data import glands

RULES = {u: regions.as_released(u) for u in (0, 4)}


class Network(nn.Module):
    def __init__(self, classes=2, width=32):
        super().__init__()
        sizes = [(3, width), (width, width), (width, 2 * width)]
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in sizes]
        self.backbone = nn.Sequential(*(x for c in convolutions for x in (c, nn.ReLU())))
        self.heads = nn.ModuleList(nn.Conv2d(2 * width, classes, 1) for _ in range(2))

    def localise(self, x):
        maps = self.heads[0](self.backbone(x))
        logits = regions.wildcat_pooling(maps, 13)
        logits = torch.cat([logits[:, :1].abs() + 9, 0 * logits[:, 1:]], 1)  # no pass is left out
        return logits, regions.region(maps, logits, x.shape[2:], 8.0, 0.5)

    def classify(self, x):
        small = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
        return regions.average_pooling(self.heads[1](self.backbone(small)))


def milliseconds(run, repeats=7):
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def step(model, images, target, u, attached):
    model.zero_grad()
    loss, made = 0.0, 0
    for look in regions.looks(model.localise, images, target, RULES[u], 10.0, attached):
        made += 1
        if attached:
            loss = loss + look.losses.mean()
        else:
            look.losses.mean().backward()
    assert made == max(u, 1)
    plus, minus = model.classify(images * look.total), model.classify(images * (1 - look.total))
    (regions.min_max_loss(plus, minus, target) + loss).backward()


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"cpu, 1 thread, torch {torch.__version__}, processor time")
    model, images = Network(), torch.randn(8, 3, 96, 96)
    target = torch.zeros(8, dtype=torch.int64)
    one = milliseconds(lambda: step(model, images, target, 0, False))
    print(f"one training step, 8 images\n  u = 0            {one:8.1f} ms")
    ratios = {}
    for attached in (False, True):
        ms = milliseconds(lambda a=attached: step(model, images, target, 4, a))
        ratios[attached] = ms / one
        name = "attached" if attached else "cut"
        print(f"  u = 4, {name:9s} {ms:8.1f} ms   ratio {ms / one:.2f}")
    assert ratios[False] < 4, "four looks of M and two of C at a quarter of the size, of 1 and 2"

    maps = torch.randn(8, 200, 15, 15)
    fast = milliseconds(lambda: regions.wildcat_pooling(maps, 20))
    slow = milliseconds(lambda: maps.flatten(2).sort(2, descending=True).values[..., :20].mean(2))
    print(f"pooling of 200 maps of 15 x 15: {fast:.1f} ms, by a sort {slow:.1f} ms")

    made = milliseconds(lambda: glands.glands(32, torch.Generator().manual_seed(0)), 3) / 32
    print(f"synthetic glands, 128 x 128: {made:.1f} ms an image")
    assert made < 60


if __name__ == "__main__":
    main()
