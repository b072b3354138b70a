"""The folder format of PASCAL VOC on a tiny fixture; the filters and augmentation of the paper."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsl_tutorial.data import voc


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def thing(name, box, difficult=""):
    ends = "".join(
        f"<{e}>{v}</{e}>" for e, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{difficult}<bndbox>{ends}</bndbox></object>"


def write(folder, name, objects, width=100, height=50, draw=True):
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    text = f"<annotation><filename>{name}.jpg</filename>{size}{''.join(objects)}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    if draw:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[9:29, 19:39] = 255  # the box 20, 10, 39, 29
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=100)
    with open(folder / "ImageSets" / "Main" / "train.txt", "a") as file:
        file.write(f"{name}  1\n")


@pytest.fixture
def folder(tmp_path):
    hard = "<difficult>1</difficult>"
    write(tmp_path, "000001", [thing("dog", (20, 10, 39, 29)), thing("giraffe", (1, 1, 9, 9))])
    write(tmp_path, "000002", [thing("person", (1, 1, 50, 50)), thing("cat", (2, 2, 9, 9), hard)])
    write(tmp_path, "000003", [thing("car", (1, 1, 20, 9))])
    write(tmp_path, "000004", [thing("car", (i, 1, i + 9, 10)) for i in (1, 20, 40)])
    write(tmp_path, "000005", [thing("giraffe", (1, 1, 9, 9))])
    return tmp_path


def test_annotations_are_read_in_the_order_of_the_split(folder):
    found = voc.annotations(folder, "train")
    assert [a.name for a in found] == [f"00000{i}" for i in range(1, 6)]
    dog, pair = found[:2]
    assert dog.shape == (50, 100)
    assert dog.boxes.tolist() == [[19, 9, 38, 28]]  # from 0; the giraffe is no class of VOC
    assert [voc.CLASSES[c - 1] for c in pair.classes.tolist()] == ["person", "cat"]
    assert pair.difficult.tolist() == [False, True]
    assert found[4].boxes.shape == (0, 4)
    assert len(voc.CLASSES) == 20
    assert list(voc.CLASSES) == sorted(voc.CLASSES)


def test_suitable_images(folder):
    """One dog passes; a person on half of the image, a long car, three cars and no object fail."""
    found = voc.annotations(folder, "train")
    assert [voc.suitable(a) for a in found] == [True, False, False, False, False]
    assert voc.suitable(found[1], largest=0.5)
    assert voc.suitable(found[2], stretch=20 / 9)
    assert voc.suitable(found[3], most=3)


def test_images_and_boxes_are_resized_together(folder):
    a = voc.annotations(folder, "train")[0]
    image, boxes = voc.load(folder, a, side=100)
    assert image.shape == (3, 100, 200)
    assert boxes.tolist() == [[38, 18, 77, 57]]
    left, top, right, bottom = boxes[0].int().tolist()
    assert image[0, top + 2 : bottom - 1, left + 2 : right - 1].min() > 0.9
    assert image[0, :, : left - 3].max() < 0.1
    assert image[0, bottom + 4 :].max() < 0.1


def test_images_of_another_shape_are_refused(folder):
    a = voc.annotations(folder, "train")[0]
    Image.new("RGB", (30, 30)).save(folder / "JPEGImages" / "000001.jpg")
    with pytest.raises(ValueError, match="is annotated as"):
        voc.load(folder, a)


def test_damaged_annotations_and_names_are_refused(folder):
    (folder / "Annotations" / "000001.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match="no annotation in the VOC format"):
        voc.annotations(folder, "train")
    (folder / "Annotations" / "000001.xml").write_text("<annotation></annotation>")
    with pytest.raises(ValueError, match="no annotation in the VOC format"):
        voc.annotations(folder, "train")
    (folder / "ImageSets" / "Main" / "out.txt").write_text("../000001\n")
    with pytest.raises(ValueError, match="no plain file name"):
        voc.annotations(folder, "out")
    with pytest.raises(FileNotFoundError):
        voc.annotations(folder, "test")


def test_crops_hold_all_objects_and_cover_the_share(folder):
    a = voc.annotations(folder, "train")[0]
    corners = set()
    for seed in range(40):
        left, top, right, bottom = voc.crop_to_share(a, gen(seed), share=0.3)
        assert 0 <= left <= 19
        assert 0 <= top <= 9
        assert 39 <= right <= 100
        assert 29 <= bottom <= 50
        area = (right - left) * (bottom - top)
        assert 400 / area == pytest.approx(0.3, rel=0.06)
        assert (right - left) / (bottom - top) == pytest.approx(2, rel=0.06)
        corners.add((left, top))
    assert len(corners) > 10
    assert voc.crop_to_share(a, gen(), share=0.01) == (0, 0, 100, 50)  # never larger than the image


def test_flip_moves_boxes_with_their_pixels(folder):
    a = voc.annotations(folder, "train")[0]
    image, boxes = voc.load(folder, a, side=50)
    flipped, moved = voc.flip(image, boxes)
    assert moved.tolist() == [[61, 9, 80, 28]]
    assert flipped[0, 12:26, 64:78].min() > 0.9
    back = voc.flip(flipped, moved)
    assert torch.equal(back[0], image)
    assert torch.equal(back[1], boxes)


def test_mask_fills_one_rectangle_with_its_mean():
    image = torch.rand(3, 40, 60, generator=gen())
    sides = []
    for seed in range(60):
        masked = voc.mask(image, gen(seed))
        changed = (masked != image).all(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        h, w = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() == h * w  # one full rectangle
        inside = image[:, changed].mean(1)
        torch.testing.assert_close(masked[:, changed], inside[:, None].expand(-1, int(h * w)))
        sides.append((int(h), int(w)))
    assert min(min(s) for s in sides) >= 6  # 0.15 of 40
    assert max(max(s) for s in sides) <= 24  # 0.6 of 40
    assert any(h != w for h, w in sides)
    assert torch.equal(voc.mask(image, gen(1)), voc.mask(image, gen(1)))
