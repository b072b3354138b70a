"""Measure the speed of patches, as ratios of one run: python tests/benchmarks/patches_speed.py

Each function is compared with a plain implementation, on the sizes of the paper: 32 images of
80 x 80 pixels, 9 places, patches of 32 x 32, windows of 15 x 15, and 400 candidates for the soft
top-K. Both are first shown to agree. Processor time of one thread, forward and backward.
"""

import statistics
import time

import torch
from torch.nn import functional as F

from wsl_tutorial import patches

BATCH, K, SIDE, PIXELS, WINDOW = 32, 9, 80, 32, 15


def milliseconds(run, repeats=5):
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def one_patch(image, place):
    """Return the patch (C, 32, 32) of an image (C, H, W) at a place (3,)."""
    step = torch.linspace(-0.5, 0.5, PIXELS) * place[2]
    x, y = 2 * (place[0] + step) / (SIDE - 1) - 1, 2 * (place[1] + step) / (SIDE - 1) - 1
    grid = torch.stack([x.expand(PIXELS, -1), y[:, None].expand(-1, PIXELS)], -1)
    return F.grid_sample(image[None], grid[None], align_corners=True)[0]


def sample_by_patch(images, places):
    return torch.stack([
        torch.stack([one_patch(image, place) for place in of_image])
        for image, of_image in zip(images, places, strict=True)
    ])  # fmt: skip


def softmax_of_all_windows(heatmap, strength):
    """Compute the softmax on all windows of 225 pixels side by side, (B, 225, H W)."""
    padded = F.pad(strength * heatmap, (WINDOW // 2,) * 4, value=-torch.inf)
    windows = F.unfold(padded[:, None], WINDOW)
    return windows.softmax(1)[:, WINDOW**2 // 2].view_as(heatmap)


def compare(name, ours, plain, x, least):
    """Print both times and their ratio; `ours` and `plain` map x to equal tensors."""
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-3, atol=1e-4)

    def both_ways(f):
        x.grad = None
        f(x).square().sum().backward()

    quick, slow = milliseconds(lambda: both_ways(ours)), milliseconds(lambda: both_ways(plain))
    print(f"{name:44s} {quick:8.1f} ms {slow:8.1f} ms   ratio {slow / quick:6.1f}")
    assert slow / quick >= least, f"{name}: {slow / quick:.1f} times, expected {least}"


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"cpu, 1 thread, torch {torch.__version__}, processor time: ours, plain")
    images = torch.rand(BATCH, 1, SIDE, SIDE, generator=generator)
    places = torch.rand(BATCH, K, 3, generator=generator) * 60 + 10
    places[..., 2] = 20
    heatmap = torch.randn(BATCH, SIDE, SIDE, generator=generator)
    scores = torch.randn(BATCH, 400, generator=generator)
    for x in (places, heatmap, scores):
        x.requires_grad_()
    compare("sample: batched, patch by patch", lambda p: patches.sample(images, p, PIXELS),
            lambda p: sample_by_patch(images, p), places, 3)  # fmt: skip
    compare("local softmax: by axis, all windows", lambda h: patches.local_softmax(h, WINDOW, 10.0),
            lambda h: softmax_of_all_windows(h, 10.0), heatmap, 3)  # fmt: skip
    compare("soft top-K: closed form, 200 Sinkhorn steps",
            lambda s: patches.soft_top_k(s, K, 0.25),
            lambda s: patches.sinkhorn_top_k(s, K, 0.5, 200), scores, 10)  # fmt: skip


if __name__ == "__main__":
    main()
