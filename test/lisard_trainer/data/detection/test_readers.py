"""Four formats, one annotation: the same scenes read from each, and lists that are wrong."""

from __future__ import annotations

import codecs
import json

import numpy as np
import pytest
import torch

from lisard_ros.errors import DataError, LisardError, UsageError
from lisard_ros.inference.preprocess import fit
from lisard_trainer.data import detection
from lisard_trainer.data.detection import kinds
from lisard_trainer.data.detection.scenes import input_spec

SETTINGS = detection.DetectionData(width_px=160, height_px=96)


def training(root, settings=SETTINGS):
    annotations = kinds.find(settings, str(root))[1].read(root, "train")
    return kinds._scenes(annotations, kinds.chosen(annotations, settings), settings)


def change_coco(root, work, part="train"):
    path = root / part / "annotations.json"
    content = json.loads(path.read_text())
    work(content)
    path.write_text(json.dumps(content))


def test_every_format_gives_the_same_scenes(written, truths):
    kind, root = written
    assert kinds.find(SETTINGS, str(root))[1] is detection.READERS[kind]
    scenes = training(root)
    assert scenes.classes == ("car", "sign") and scenes.images.shape == (3, 3, 96, 160)
    laid = fit(120, 80, input_spec(160, 96))
    for row, truth in enumerate(truths):
        own = scenes.labels[row] >= 0
        assert [scenes.classes[n] for n in scenes.labels[row][own]] == [box[0] for box in truth.boxes]
        expected = np.array([box[1:] for box in truth.boxes], float).reshape(-1, 4)
        assert np.allclose(laid.to_source(scenes.boxes[row][own].numpy()), expected, atol=1e-4)
    assert scenes.content[0].tolist() == [8.0, 0.0, 152.0, 96.0] and scenes.sizes_px[0].tolist() == [120, 80]
    assert (scenes.images[0, :, :, :8] == 114).all() and (scenes.labels[2] == detection.NOTHING).all()


def test_a_part_is_held_back_where_the_data_set_has_none(written):
    split = detection.load(SETTINGS, str(written[1]))
    assert len(split.train) == 2 and len(split.validation) == 1
    assert not set(split.train.paths) & set(split.validation.paths)


BAD = {
    "outside": ([100, 10, 40, 20], "outside its image of 120x80 px"),
    "zero": ([10, 10, 0, 20], r"zero area \(0 x 20 px\)"),
    "negative": ([10, 10, -5, 20], "zero area"),
    "narrow": ([10, 10, 0.5, 20], "less than 1 px across"),
    "elongated": ([1, 1, 118, 1.1], "degenerate aspect ratio"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_every_bad_box_is_named_or_dropped(coco, name, capsys):
    box, words = BAD[name]
    change_coco(coco, lambda content: content["annotations"][1].update(bbox=box))
    with pytest.raises(DataError, match=f"1 faults.*annotation 1 in scene0.png: .*{words}.*data.bad_boxes: drop"):
        training(coco)
    dropped = training(coco, detection.DetectionData(bad_boxes="drop"))
    assert dropped.counts() == (0, 2) and "left out 1 boxes: annotation 1" in capsys.readouterr().err


def test_several_bad_boxes_are_all_named(coco):
    change_coco(coco, lambda content: [a.update(bbox=[10, 10, 0, 0]) for a in content["annotations"]])
    with pytest.raises(DataError, match="3 faults.*annotation 0.*annotation 1.*annotation 2"):
        training(coco)


def test_two_pixels_over_the_border_are_clipped(coco):
    change_coco(coco, lambda content: content["annotations"][0].update(bbox=[-1.5, 10, 40, 71]))
    scenes = training(coco)
    assert scenes.boxes[0, 0].tolist() == pytest.approx([8.0, 12.0, 8 + 38.5 * 1.2, 96.0])


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda c: c["images"][1].update(id=0), "image number 0 twice"),
        (lambda c: c["annotations"][1].update(id=0), "annotation number 0 twice"),
        (lambda c: c["categories"][1].update(name="car"), "category car twice"),
        (lambda c: c["annotations"][1].update(category_id=9), "annotation 1 is of the unknown class number 9"),
        (lambda c: c["annotations"][1].update(image_id=77), "image number 77, which is not listed"),
        (lambda c: c["images"][1].update(file_name="scene0.png"), "image scene0.png twice"),
        (lambda c: c["images"][1].update(file_name="gone.png"), "no image gone.png"),
        (lambda c: c["images"][1].update(file_name="../x.png"), "leads out of the folder"),
        (lambda c: c["images"][1].update(width=121), "found 120x80 pixels, expected 121x80"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "COCO instances"),
    ],
)
def test_lists_that_contradict_themselves(coco, work, words):
    change_coco(coco, work)
    with pytest.raises(DataError, match=words):
        training(coco)


def test_crowds_are_ignored_regions(coco):
    change_coco(coco, lambda content: content["annotations"][1].update(iscrowd=1))
    scenes = training(coco)
    assert sorted(scenes.labels[0].tolist()) == [detection.IGNORED, 1]


def test_labels_of_another_class_list_are_refused_with_the_difference(coco, write_coco):
    write_coco(coco, "val")
    assert len(detection.load(SETTINGS, str(coco)).validation) == 3
    change_coco(coco, lambda content: content["categories"][0].update(name="tram"), "val")
    with pytest.raises(DataError, match="found without car, with tram"):
        detection.load(SETTINGS, str(coco))


def test_classes_are_those_of_the_recipe_in_its_order(coco):
    assert training(coco, detection.DetectionData(classes="sign, car")).labels[0].tolist() == [0, 1]
    assert training(coco, detection.DetectionData(classes="sign")).counts() == (2,)
    with pytest.raises(DataError, match="unknown class.*did you mean 'sign'"):
        training(coco, detection.DetectionData(classes="sing"))


def test_a_class_without_a_box_cannot_be_learnt(coco):
    change_coco(coco, lambda content: content["annotations"].pop(1))
    with pytest.raises(DataError, match="no box of car"):
        detection.load(SETTINGS, str(coco))


def test_broken_text_labels_are_named_with_their_line(yolo, kitti):
    (yolo / "labels" / "train" / "scene1.txt").write_text("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"scene1.txt:2: found the unknown class number 7, expected 0 to 1"):
        training(yolo)
    (kitti / "training" / "label_2" / "scene1.txt").write_text("Car 0 0 0 1 2 x 4")
    with pytest.raises(DataError, match=r"label_2/scene1.txt:1"):
        training(kitti)
    (kitti / "training" / "label_2" / "scene1.txt").unlink()
    with pytest.raises(DataError, match="a label file, empty if there is nothing to see"):
        training(kitti)


def test_a_byte_order_mark_is_no_part_of_a_label(coco, yolo, kitti, voc):
    """Editors of Windows put one before what they save."""
    stems = voc / "ImageSets" / "Main" / "train.txt"
    stems.parent.mkdir(parents=True, exist_ok=True)
    stems.write_text("\n".join(sorted(path.stem for path in (voc / "Annotations").glob("*.xml"))))
    labels = [next(root.rglob("scene1.txt")) for root in (yolo, kitti)]
    files = [next(coco.rglob("annotations.json")), *labels, stems]
    expected = [training(root).labels for root in (coco, yolo, kitti, voc)]
    for file in files:
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    found = [training(root).labels for root in (coco, yolo, kitti, voc)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_dont_care_and_difficult_are_ignored_regions(kitti, voc):
    (kitti / "training" / "label_2" / "scene1.txt").write_text("DontCare -1 -1 -10 40 20 72 52 -1 -1 -1")
    assert training(kitti).labels[1].tolist() == [detection.IGNORED, detection.NOTHING]
    path = voc / "Annotations" / "scene1.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert training(voc).labels[1, 0] == detection.IGNORED


def test_xml_with_a_document_type_is_refused(voc):
    path = voc / "Annotations" / "scene1.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + path.read_text())
    with pytest.raises(DataError, match="a document type"):
        training(voc)


def test_a_folder_of_another_format_is_named_by_what_it_looks_like(yolo):
    with pytest.raises(DataError, match="kitti data .*found what looks like yolo, .*set data.kind: yolo in the recipe"):
        detection.load(detection.DetectionData(kind="kitti"), str(yolo))


def test_a_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="an empty folder, expected coco: .*yolo: .*voc: .*kitti: "):
        detection.load(SETTINGS, str(tmp_path))


@pytest.mark.parametrize("side", [0, 100, 8192])
def test_input_sides_are_multiples_of_32(side):
    with pytest.raises(UsageError, match="a multiple of 32 px"):
        detection.DetectionData(width_px=side)


def test_thousands_of_boxes(coco):
    def fill(content):
        rows = [
            {"id": n, "image_id": 2, "category_id": 1 + n % 2, "bbox": [n % 100, n % 60, 8, 8]} for n in range(4000)
        ]
        content["annotations"] = rows

    change_coco(coco, fill)
    assert training(coco).counts() == (2000, 2000)


def test_the_hash_sees_images_and_boxes(coco):
    first = training(coco)
    assert first.sha256() == training(coco).sha256() == first.take([0, 1, 2]).sha256()
    change_coco(coco, lambda content: content["annotations"][0].update(bbox=[10, 10, 31, 32]))
    assert training(coco).sha256() != first.sha256()


def test_errors_are_of_this_package(written):
    kind, root = written
    for path in sorted(root.rglob("*")):
        if path.suffix in (".json", ".yaml", ".xml", ".txt"):
            path.write_bytes(b"\xff\xfe broken")
    with pytest.raises(LisardError):
        training(root)
