"""The formats of PASCAL VOC and COCO on tiny fixtures; the paper's filters and augmentation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


CATEGORIES = {3: "car", 4: "motorcycle", 5: "airplane", 18: "dog", 25: "giraffe", 63: "couch",
              64: "potted plant", 67: "dining table", 72: "tv"}  # fmt: skip


def instances(*images):
    """Make an instances_*.json as COCO's: images of objects (category, box, crowd)."""
    told = {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"id": 1, "name": "a licence", "url": "http://example.com"}],
        "images": [],
        "annotations": [],
        "categories": [
            {"supercategory": "thing", "id": i, "name": name} for i, name in CATEGORIES.items()
        ],
    }
    for i, objects in images:
        size = {"height": 50, "width": 100}
        names = {"file_name": f"{i:012d}.jpg", "coco_url": "", "flickr_url": ""}
        told["images"].append({"license": 1, "id": i, "date_captured": "", **names, **size})
        for category, box, crowd in objects:
            left, top, width, height = box
            outline = [left, top, left + width, top, left + width, top + height, left, top + height]
            shape = {"counts": [5000], "size": [50, 100]} if crowd else [outline]
            told["annotations"].append(
                {"segmentation": shape, "area": width * height, "iscrowd": int(crowd),
                 "image_id": i, "bbox": box, "category_id": category,
                 "id": 900 + len(told["annotations"])}
            )  # fmt: skip
    told["annotations"].reverse()  # the official files are not in the order of images
    return told


def test_coco_is_read_from_its_official_file(folder, tmp_path):
    """The dog at the pixels that `write` paints, as in VOC's file; names of VOC; no giraffe."""
    path = tmp_path / "instances_val2017.json"
    others = [(c, [0, 0, 5, 5], False) for c in (72, 67, 64, 63, 5, 4)]
    told = instances(
        (139, [(25, [0, 0, 9, 9], False), (18, [19.0, 9.0, 20.0, 20.0], False)]),
        (30, others),
        (7, [(3, [1.25, 2.5, 50.0, 20.0], True)]),
        (8, []),
    )
    path.write_text(json.dumps(told))
    dog, named, crowd, empty = voc.coco(path)
    assert [a.name for a in (dog, named, crowd, empty)] == [f"{i:012d}" for i in (139, 30, 7, 8)]
    expected = voc.annotations(folder, "train")[0]
    assert torch.equal(dog.boxes, expected.boxes)
    assert torch.equal(dog.classes, expected.classes)
    assert dog.shape == expected.shape
    assert [voc.CLASSES[c - 1] for c in named.classes.tolist()] == [
        *("motorbike", "aeroplane", "sofa", "pottedplant", "diningtable", "tvmonitor")
    ]
    assert crowd.boxes.tolist() == [[1.25, 2.5, 50.25, 21.5]]
    assert crowd.difficult.tolist() == [True]
    assert empty.boxes.shape == (0, 4)
    assert [voc.suitable(a) for a in (dog, named, crowd, empty)] == [True, False, False, False]
    assert set(voc.COCO.values()) < set(voc.CLASSES)


def test_images_of_coco_lie_beside_its_file(folder, tmp_path):
    (tmp_path / "val2017").mkdir()
    source = folder / "JPEGImages" / "000001.jpg"
    (tmp_path / "val2017" / f"{139:012d}.jpg").write_bytes(source.read_bytes())
    path = tmp_path / "instances_val2017.json"
    path.write_text(json.dumps(instances((139, [(18, [19, 9, 20, 20], False)]))))
    (a,) = voc.coco(path)
    image, boxes = voc.load(tmp_path, a, 100, "val2017")
    expected = voc.load(folder, voc.annotations(folder, "train")[0], 100)
    assert torch.equal(image, expected[0])
    assert torch.equal(boxes, expected[1])


@pytest.mark.parametrize("lacks", ["categories", "images", "annotations", "bbox", "image", "json"])
def test_damaged_files_of_coco_are_refused(tmp_path, lacks):
    told = instances((139, [(18, [19, 9, 20, 20], False)]))
    if lacks == "bbox":
        told["annotations"][0]["bbox"] = [1, 2]
    elif lacks == "image":
        told["annotations"][0]["image_id"] = 5
    else:
        told.pop(lacks, None)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(told)[: 40 if lacks == "json" else None])
    with pytest.raises(ValueError, match=r"path: .*instances.json is no file of COCO's instances"):
        voc.coco(path)
    with pytest.raises(FileNotFoundError):
        voc.coco(tmp_path / "none.json")


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


@settings(max_examples=200, deadline=None)
@given(
    corners=st.lists(st.tuples(*4 * [st.floats(0, 1, width=32)]), min_size=1, max_size=3),
    share=st.floats(0.05, 1),
    seed=st.integers(0, 1000),
)
def test_crops_cut_no_object(corners, share, seed):
    """Boxes between any two points of the image, as COCO has them; right and bottom included."""
    ends = torch.tensor(corners).view(-1, 2, 2).sort(1).values * torch.tensor([100.0, 50.0])
    boxes = ends.flatten(1) - torch.tensor([0.0, 0.0, 1.0, 1.0])
    there = torch.ones(len(boxes), dtype=torch.int64)
    a = voc.Annotation("", (50, 100), boxes, there, there == 0)
    left, top, right, bottom = voc.crop_to_share(a, gen(seed), share)
    low, high = boxes.amin(0), boxes.amax(0) + 1
    assert 0 <= left <= low[0]
    assert 0 <= top <= low[1]
    assert high[2] <= right <= 100
    assert high[3] <= bottom <= 50


def test_crops_stay_inside_where_boxes_do_not():
    box = torch.tensor([[-0.5, 10, 99.25, 20]])
    a = voc.Annotation("", (50, 100), box, torch.tensor([1]), torch.tensor([False]))
    left, top, right, bottom = voc.crop_to_share(a, gen())
    assert (left, right) == (0, 100)
    assert 0 <= top <= 10 < 21 <= bottom <= 50


def test_crops_need_an_object(folder):
    pair, empty = (voc.annotations(folder, "train")[i] for i in (1, 4))
    hard = replace(pair, difficult=torch.tensor([True, True]))
    for a in (empty, hard):
        with pytest.raises(ValueError, match=f"a: {a.name} has no object that is not difficult"):
            voc.crop_to_share(a, gen())
    for share in (0.0, -0.3, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"share: got {share}, expected more than 0"):
            voc.crop_to_share(pair, gen(), share)


def test_the_papers_recipe_from_start_to_end(folder):
    """Select, crop, load: the dog covers 30 % of the image, and its box is where it is painted."""
    (a,) = [a for a in voc.annotations(folder, "train") if voc.suitable(a)]
    corners = set()
    for seed in range(20):
        window = voc.crop_to_share(a, gen(seed), share=0.3)
        image, boxes = voc.load(folder, a, side=100, window=window)
        assert image.shape[1] == 100
        left, top, right, bottom = boxes[0].tolist()
        covered = (right - left + 1) * (bottom - top + 1)
        assert covered / image[0].numel() == pytest.approx(0.3, rel=0.06)
        bright = (image[0] > 0.5).nonzero()  # row, column
        found = (*bright.amin(0).flip(0).tolist(), *bright.amax(0).flip(0).tolist())
        assert found == pytest.approx((left, top, right, bottom), abs=2)
        corners.add((left, top))
    assert len(corners) > 10


def test_a_window_is_cut_out_pixel_by_pixel(folder):
    a = voc.annotations(folder, "train")[0]
    whole, boxes = voc.load(folder, a, side=50)
    part, moved = voc.load(folder, a, side=30, window=(10, 5, 60, 35))
    assert torch.equal(part, whole[:, 5:35, 10:60])
    assert torch.equal(moved, boxes - torch.tensor([10.0, 5.0, 10.0, 5.0]))
    full = voc.load(folder, a, side=50, window=(0, 0, 100, 50))
    assert torch.equal(full[0], whole)
    assert torch.equal(full[1], boxes)
    for wrong in ((-1, 0, 50, 50), (0, 0, 101, 50), (0, 0, 100, 51), (20, 0, 20, 50)):
        with pytest.raises(ValueError, match=r"window: got .* inside 100 x 50"):
            voc.load(folder, a, window=wrong)


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


# Files as they occur ------------------------------------------------------------------------------

XML = """<?xml version="1.0" encoding="{}"?>
<annotation><owner>J. Müller 北京</owner><size><width>100</width><height>50</height></size>{}
</annotation>"""
ENCODINGS = {  # what is declared: what the bytes are in
    "UTF-8": ("utf-8", "utf-8-sig"),
    "utf-16": ("utf-16", "utf-16-le", "utf-16-be", "utf-8"),  # .NET declares it and writes UTF-8
    "GB2312": ("gb2312",),
    "gbk": ("gbk",),
    "GB18030": ("gb18030",),
    "Shift_JIS": ("shift_jis",),
    "big5": ("big5",),
    "ISO-8859-1": ("iso-8859-1",),
    "windows-1252": ("cp1252",),
    "us-ascii": ("ascii",),
}


@pytest.mark.parametrize(
    ("declared", "written"), [(d, w) for d, ws in ENCODINGS.items() for w in ws]
)
def test_annotations_are_read_in_the_encoding_that_they_declare(folder, declared, written):
    text = XML.format(declared, thing("dog", (20, 10, 39, 29)))
    path = folder / "Annotations" / "000001.xml"
    path.write_bytes(text.encode(written, errors="xmlcharrefreplace"))
    a = voc.annotation(path)
    assert a.boxes.tolist() == [[19, 9, 38, 28]]
    assert a.shape == (50, 100)


@pytest.mark.parametrize("declared", ["no-such", "rot13", "utf-8"])
def test_bytes_that_are_not_as_declared_are_refused(folder, declared):
    path = folder / "Annotations" / "000001.xml"
    path.write_bytes(XML.format(declared, "").encode("cp1252", errors="replace"))
    with pytest.raises(ValueError, match=r"000001\.xml is no annotation in the VOC format"):
        voc.annotations(folder, "train")


@pytest.mark.parametrize(
    "box",
    [(39, 10, 20, 29), (20, 29, 39, 10), (39, 10, 38, 29), ("nan", 1, 9, 9), (1, 1, "inf", 9)],
)
def test_a_box_that_ends_before_it_begins_is_refused_with_its_file(folder, box):
    write(folder, "000009", [thing("dog", (1, 1, 9, 9)), thing("cat", box)], draw=False)
    with pytest.raises(ValueError, match=r"000009\.xml is no .*\(the box of cat at .*put it"):
        voc.annotations(folder, "train")


@pytest.mark.parametrize("size", [(0, 50), (100, 0), (-100, 50)])
def test_a_size_that_is_none_is_refused_with_its_file(folder, size):
    write(folder, "000009", [thing("dog", (1, 1, 1, 1))], *size, draw=False)
    with pytest.raises(ValueError, match=r"000009\.xml .*expected a height and a width"):
        voc.annotations(folder, "train")


def test_a_box_of_one_pixel_is_taken(folder):
    write(folder, "000009", [thing("dog", (7, 9, 7, 9))], draw=False)
    assert voc.annotations(folder, "train")[-1].boxes.tolist() == [[6, 8, 6, 8]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_split_lists_may_begin_with_a_mark(folder, encoding, end):
    text = end.join(["000003  1", "000001 -1", ""])
    (folder / "ImageSets/Main/two.txt").write_bytes(text.encode(encoding))
    assert [a.name for a in voc.annotations(folder, "two")] == ["000003", "000001"]


def test_lists_without_names_and_of_missing_files_are_named(folder):
    place = folder / "ImageSets/Main"
    (place / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"none\.txt names no image: get it"):
        voc.annotations(folder, "none")
    (place / "cut.txt").write_text("000001\n0000")
    with pytest.raises(FileNotFoundError, match=r"cut\.txt lists .*0000\.xml, which is missing"):
        voc.annotations(folder, "cut")
    with pytest.raises(FileNotFoundError, match=r"test\.txt is missing: get it"):
        voc.annotations(folder, "test")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_coco_may_begin_with_a_mark(tmp_path, encoding):
    path = tmp_path / "instances.json"
    path.write_bytes(json.dumps(instances((139, [(18, [19, 9, 20, 20], False)]))).encode(encoding))
    assert [a.name for a in voc.coco(path)] == [f"{139:012d}"]


@pytest.mark.parametrize(
    "box", [[19, 9, -20, 20], [19, 9, 20, -0.5], [19, 9, float("nan"), 2], [1e999, 9, 2, 2]]
)
def test_coco_s_boxes_have_no_negative_sides(tmp_path, box):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances((139, [(18, box, False)]))))
    with pytest.raises(ValueError, match=r"instances\.json is no file of COCO.*the box of dog at"):
        voc.coco(path)


def test_coco_s_boxes_without_a_pixel_are_taken_and_not_suitable(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances((139, [(18, [19.5, 9, 20, 0], False)]))))
    (a,) = voc.coco(path)
    assert a.boxes.tolist() == [[19.5, 9, 38.5, 8]]
    assert not voc.suitable(a)


@pytest.mark.parametrize("content", [b"", b"[" * 10**5, b"[]", b"7", b"<html>", b"\xff\xfe\x00"])
def test_files_that_are_not_of_coco_are_named(tmp_path, content):
    (tmp_path / "instances.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"instances\.json is no file of COCO's instances.*get it"):
        voc.coco(tmp_path / "instances.json")


def test_damaged_images_are_named(folder):
    a = voc.annotations(folder, "train")[0]
    path = folder / "JPEGImages" / "000001.jpg"
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"000001\.jpg: is no whole image .*delete it"):
            voc.load(folder, a)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.jpg is missing: get it"):
        voc.load(folder, a)
