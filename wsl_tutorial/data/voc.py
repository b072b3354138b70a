"""Images and boxes of PASCAL VOC and COCO, and what Angles, Jin et al. (2021) make of them.

Two official formats are read: the folders of VOC 2007 (Annotations/NAME.xml, JPEGImages/NAME.jpg
and ImageSets/Main/SPLIT.txt; `annotations`), and COCO's instances_*.json beside a folder of images
(`coco`). Nothing is downloaded. The paper takes the images of both that hold one of VOC's classes;
its list of 9,780 images is not published, so that `suitable` gives its rules, and not its data.

A box is (left, top, right, bottom) in pixels that count from 0, both ends included. VOC's files
count from 1; COCO's give left, top, width and height between the edges of pixels.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from wsl_tutorial.data import files

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
COCO = {  # where COCO has another name
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
MISSING = "get it from the official archive and put it there"


@dataclass(frozen=True)
class Annotation:
    """Hold one image's name, height and width, boxes (n, 4) float, classes and difficult (n,)."""

    name: str
    shape: tuple[int, int]
    boxes: Tensor
    classes: Tensor
    difficult: Tensor


def annotations(folder: str | os.PathLike, split: str) -> list[Annotation]:
    """Read the annotations of a split, in its order, without objects of other classes.

    Raises ValueError for names that leave the folder, FileNotFoundError for what is missing.
    """
    folder = Path(folder)
    lines = files.text(_there(folder / "ImageSets" / "Main" / f"{split}.txt")).splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise ValueError(f"split: {split}.txt names no image: {MISSING}")
    if wrong := [name for name in names if Path(name).name != name]:
        raise ValueError(
            f"split: {split}.txt names {wrong[0]!r}, which is no plain file name: {MISSING}"
        )
    paths = [folder / "Annotations" / f"{name}.xml" for name in names]
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"{split}.txt lists {missing[0]}, which is missing: {MISSING}")
    return [annotation(path) for path in paths]


def annotation(path: Path) -> Annotation:
    """Read one annotation file, in the encoding that it declares.

    Raises ValueError where it lacks what an annotation has, or has a box whose left end is right of
    its right end, FileNotFoundError where it is missing.
    """
    try:
        tree = ElementTree.fromstring(_xml(_there(path).read_bytes()))
        shape = int(_text(tree, "size/height")), int(_text(tree, "size/width"))
        things = []
        for thing in tree.iter("object"):
            ends = (_text(thing, f"bndbox/{e}") for e in ("xmin", "ymin", "xmax", "ymax"))
            hard = thing.findtext("difficult", "0").strip() == "1"
            things.append((_text(thing, "name").strip(), [float(e) - 1 for e in ends], hard))
        return _annotation(path.stem, shape, things)
    except (ElementTree.ParseError, AttributeError, LookupError, *files.UNREADABLE) as error:
        raise ValueError(
            f"path: {path} is no annotation in the VOC format ({error}): {MISSING}"
        ) from error


def _text(element: ElementTree.Element, path: str) -> str:
    """Return the text of a part of an element. Raises LookupError where it has none."""
    if (found := element.findtext(path)) is None:
        raise LookupError(f"no {path}")
    return found


def _xml(content: bytes) -> str:
    """Return the text of an XML file: by its mark, else as declared, else UTF-8."""
    if wide := {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(content[:2]):
        return content.decode(wide)
    declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)", content)
    encoding = declared[1].decode() if declared else "utf-8"
    # A declaration that can be read byte by byte is not in UTF-16, whatever it says.
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "ucs", "iso-10646"))
    return files.text(content, "utf-8" if wide else encoding).lstrip()


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {MISSING}")
    return path


def coco(path: str | os.PathLike) -> list[Annotation]:
    """Read the annotations of an official instances_*.json, in the order of its images.

    Objects of classes that VOC has not are left out; a crowd, one box for many, is difficult.
    Raises ValueError where the file lacks what COCO's have, FileNotFoundError where it is missing.
    """
    content = _there(Path(path)).read_bytes()
    try:
        given = json.loads(content)
        names = {c["id"]: COCO.get(c["name"], c["name"]) for c in given["categories"]}
        things = {image["id"]: [] for image in given["images"]}
        for thing in given["annotations"]:
            left, top, width, height = thing["bbox"]
            box = [left, top, left + width - 1, top + height - 1]
            named = names[thing["category_id"]]
            things[thing["image_id"]].append((named, box, thing["iscrowd"] == 1))
        return [
            _annotation(
                PurePosixPath(image["file_name"]).stem,
                (image["height"], image["width"]),
                things[image["id"]],
                least=0,  # the official files have a few boxes without a pixel
            )
            for image in given["images"]
        ]
    except (AttributeError, *files.UNREADABLE) as error:
        raise ValueError(
            f"path: {path} is no file of COCO's instances ({error!r}): {MISSING}"
        ) from error


def _annotation(
    name: str, shape: tuple[int, int], things: list[tuple[str, list[float], bool]], least: int = 1
) -> Annotation:
    """Make an annotation of objects (name, box, difficult), without those of other classes.

    Raises ValueError for a size that is not positive and for a box with a side below `least`.
    """
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"the image is {shape}, expected a height and a width")
    for named, (left, top, right, bottom), _ in things:
        finite = all(map(math.isfinite, (left, top, right, bottom)))
        if not (finite and right - left + 1 >= least and bottom - top + 1 >= least):
            sides = f"{right - left + 1:g} wide and {bottom - top + 1:g} high"
            raise ValueError(f"the box of {named} at ({left:g}, {top:g}), from 0, is {sides}")
    kept = [thing for thing in things if thing[0] in CLASSES]
    return Annotation(
        name,
        shape,
        torch.tensor([box for _, box, _ in kept], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([1 + CLASSES.index(named) for named, _, _ in kept], dtype=torch.int64),
        torch.tensor([hard for _, _, hard in kept], dtype=torch.bool),
    )


def suitable(a: Annotation, largest: float = 0.3, stretch: float = 2.0, most: int = 2) -> bool:
    """Return whether the paper would take an image: it has objects, none too large or too long.

    largest: the largest share of the image that one object's box may cover; stretch: the largest
    ratio of its sides; most: images with more objects are left out. (The released loader keeps
    them, with their first two objects as the whole truth.) Difficult objects are ignored.
    Source: Angles, Jin et al. (2021), section 5.2.
    """
    size = (a.boxes[:, 2:] - a.boxes[:, :2] + 1)[~a.difficult]  # width, height
    if not 1 <= len(size) <= most:
        return False
    share = size.prod(1) / (a.shape[0] * a.shape[1])
    ratio = size.amax(1) / size.amin(1)
    return bool((share <= largest).all() and (ratio <= stretch).all())


def crop_to_share(
    a: Annotation, generator: torch.Generator, share: float = 0.3
) -> tuple[int, int, int, int]:
    """Draw a window (left, top, right, bottom) around all objects; right and bottom are excluded.

    Of the image's shape, and so large that the boxes together cover `share` of it; larger where it
    has to be to hold all of them, and never larger than the image. How the paper crops is not
    stated: "random cropped to ensure that all objects cover 30 % of the image in average".
    Difficult objects are ignored; raises ValueError where there are no others, and for a
    share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, expected more than 0 and at most 1")
    boxes = a.boxes[~a.difficult]
    if not len(boxes):
        raise ValueError(f"a: {a.name} has no object that is not difficult")
    size = torch.tensor([a.shape[1], a.shape[0]], dtype=torch.float32)  # width, height
    low = boxes[:, :2].amin(0).floor().clamp(min=0)
    high = (boxes[:, 2:].amax(0) + 1).ceil().minimum(size)
    covered = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1).sum()
    factor = (covered / share / size.prod()).sqrt().clamp(max=1)
    extent = torch.maximum(factor * size, high - low).ceil().minimum(size)
    first, last = (high - extent).clamp(min=0), torch.minimum(low, size - extent)
    u = torch.rand(2, generator=generator)
    corner = (first + u * (last - first)).round()
    return (*corner.int().tolist(), *(corner + extent).int().tolist())


def load(
    folder: str | os.PathLike,
    a: Annotation,
    side: int = 224,
    images: str = "JPEGImages",
    window: tuple[int, int, int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Load an image (3, H, W) in [0, 1] whose shorter side is `side`, and its boxes in its pixels.

    images: where `folder` has them, "train2017" and the like for COCO; window: all that is kept of
    the image, as from `crop_to_share` (boxes are not cut: difficult ones may reach out of it).
    Raises ValueError where the image is damaged or has not the annotated shape, or the window is
    not inside, FileNotFoundError where it is missing.
    """
    from PIL import Image

    with files.image(path := _there(Path(folder) / images / f"{a.name}.jpg")) as file:
        image = file.convert("RGB")
    if image.size[::-1] != a.shape:
        raise ValueError(
            f"a: {a.name} is annotated as {a.shape}, its image {path} is {image.size[::-1]}"
        )
    left, top, right, bottom = window or (0, 0, *image.size)
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        shape = f"{image.width} x {image.height}"
        raise ValueError(f"window: got {window}, expected pixels inside {shape}")
    image = image.crop((left, top, right, bottom))
    factor = side / min(image.size)
    size = [round(factor * length) for length in image.size]
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR))
    scale = torch.tensor([size[0] / image.width, size[1] / image.height]).repeat(2)
    outer = a.boxes - torch.tensor([left, top, left, top])
    outer += torch.tensor([-0.5, -0.5, 0.5, 0.5])  # the pixels' outer edges
    boxes = (outer + 0.5) * scale - 0.5 + torch.tensor([0.5, 0.5, -0.5, -0.5])
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, boxes


def flip(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange left and right of an image (..., W) and its boxes (n, 4)."""
    left, top, right, bottom = boxes.unbind(1)
    edge = image.shape[-1] - 1
    return image.flip(-1), torch.stack([edge - right, top, edge - left, bottom], 1)


def mask(image: Tensor, generator: torch.Generator, low: float = 0.15, high: float = 0.6) -> Tensor:
    """Fill one rectangle of an image (C, H, W), at a uniform place, with its mean colour.

    Its sides are uniform between `low` and `high` of the image's shorter side, each by itself as in
    the released code; the text says a square. Source: Angles, Jin et al. (2021), section 5.2.
    """
    height, width = image.shape[1:]
    u = torch.rand(4, generator=generator).tolist()
    h, w = (max(1, round((low + (high - low) * v) * min(height, width))) for v in u[:2])
    top, left = round(u[2] * (height - h)), round(u[3] * (width - w))
    result = image.clone()
    part = result[:, top : top + h, left : left + w]
    part[:] = part.mean((1, 2), keepdim=True)
    return result
