"""`lisard predict`: images and videos in, answers out; unreadable input is exit status 2, no valid answer 1."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros.frames import Frame

BOXES = np.array([[1.25, 2, 7, 14, 1, 0.875, 0.03125, 0], [8, 1, 15, 15, 1, 0, 0, 0.5]], np.float32)


@pytest.fixture
def video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of 10 frames per second, each of one colour (0 red, 1 green, 2 blue)."""

    def write(name: str, codec: str, colours: tuple[int, ...]) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
        assert writer.isOpened()
        for colour in colours:
            rgb = np.zeros((48, 64, 3), np.uint8)
            rgb[..., colour] = 200
            writer.write(np.ascontiguousarray(rgb[..., ::-1]))
        writer.release()
        return path

    return write


def test_images_are_answered(lisard: Any, tiny: Any, image: Any) -> None:
    bundle = tiny.classifier()
    done = lisard("predict", bundle.path, image(0), image(2, "blue.jpg"))
    assert done.status == 0 and done.err == ""
    first, second = done.out.splitlines()
    assert "0.png: red 1.000" in first and "blue.jpg: blue 1.000" in second


def test_json_holds_objects_with_boxes_in_pixels_of_the_image(lisard: Any, tiny: Any, image: Any) -> None:
    """Regression: boxes and scores were rounded words inside a string."""
    path = image(1)  # 30x20 px, stretched to 16x16
    bundle = tiny.detector(BOXES)
    done = lisard("predict", bundle.path, path, "--json")
    (entry,) = json.loads(done.out)
    assert done.status == 0
    assert list(entry) == ["file", "frame", "time_s", "width_px", "height_px", "objects", "saved", "error"]
    assert entry["file"] == str(path) and (entry["width_px"], entry["height_px"]) == (30, 20)
    assert [entry[key] for key in ("frame", "time_s", "saved", "error")] == [None] * 4
    assert [(o["label"], o["index"], o["score"]) for o in entry["objects"]] == [("red", 0, 0.875), ("blue", 2, 0.5)]
    assert entry["objects"][0]["box"] == [1.25 * 30 / 16, 2 * 20 / 16, 7 * 30 / 16, 14 * 20 / 16]
    assert entry["objects"][0]["alternatives"] == []


def test_nothing_is_an_empty_list(lisard: Any, tiny: Any, image: Any) -> None:
    bundle, path = tiny.detector(BOXES), image(1)
    done = lisard("predict", bundle.path, path, "--min-score", "0.9", "--json")
    assert done.status == 0 and json.loads(done.out)[0]["objects"] == []
    assert "nothing found" in lisard("predict", bundle.path, path, "--min-score", "0.9").out


def test_a_class_of_the_whole_image_has_no_box(lisard: Any, tiny: Any, image: Any) -> None:
    done = lisard("predict", tiny.classifier().path, image(0), "--top-k", "3", "--json")
    ((entry,),) = (e["objects"] for e in json.loads(done.out))
    assert entry["box"] is None and entry["label"] == "red" and entry["score"] != round(entry["score"], 3)
    others = [(other["label"], other["index"]) for other in entry["alternatives"]]
    assert sorted(others) == [("blue", 2), ("green", 1)]


def test_boxes_that_the_user_gives(lisard: Any, tiny: Any, image: Any) -> None:
    words = ("predict", tiny.classifier().path, image(1), "--box", "1,2,9.5,9", "--box", "0,0,5,5", "--top-k", "2")
    (entry,) = json.loads(lisard(*words, "--json").out)
    assert [o["box"] for o in entry["objects"]] == [[1, 2, 9.5, 9], [0, 0, 5, 5]]
    assert all(o["label"] == "green" and len(o["alternatives"]) == 1 for o in entry["objects"])


def test_two_stages_name_both_classes(lisard: Any, tiny: Any, image: Any) -> None:
    detector = tiny.detector(BOXES, labels=("sign", "light", "blue"))
    classifier = tiny.classifier(roi_classes=("sign", "blue"))
    done = lisard("predict", classifier.path, image(0), "--detector", detector.path, "--json")
    first, second = json.loads(done.out)[0]["objects"]
    assert first["label"] == "red" and [(a["label"], a["index"]) for a in first["alternatives"]] == [("sign", 3)]
    assert second["alternatives"][0] == {"label": "blue", "index": 2, "score": 0.5}


def test_unreadable_input_is_status_2_and_the_others_are_answered(
    lisard: Any, tiny: Any, image: Any, tmp_path: Path
) -> None:
    """Regression: the status was 1, that of an image without a valid answer."""
    bomb = bytearray(image(1).read_bytes())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "no_images").mkdir()
    bad = ("bomb.png", "empty.png", "text.png", "text.mp4", "none.png", "no_images")
    paths = [image(None), image(0), *(tmp_path / name for name in bad)]
    done = lisard("predict", tiny.classifier().path, *paths)
    assert done.status == 2 and "0.png: red 1.000" in done.out and done.out.count("\n") == 1
    said = ["NaN or infinite", *["not an image"] * 3, "not a video", "cannot read the file", "no image or video in"]
    assert all(words in line for words, line in zip(said, done.err.splitlines(), strict=True)), done.err
    entries = json.loads(lisard("predict", tiny.classifier().path, *paths, "--json").out)
    assert [entry["error"] is None for entry in entries] == [False, True, *[False] * 6]
    assert all(entry["objects"] == [] for entry in entries if entry["error"])


def test_an_image_without_a_valid_answer_is_status_1(lisard: Any, tiny: Any, image: Any) -> None:
    done = lisard("predict", tiny.classifier().path, image(0), image(None))
    assert done.status == 1 and "NaN or infinite" in done.err and "0.png: red" in done.out


@pytest.mark.parametrize(("name", "codec"), [("drive.mp4", "mp4v"), ("drive.avi", "MJPG")])
def test_every_frame_of_a_video(lisard: Any, tiny: Any, video: Any, name: str, codec: str) -> None:
    path = video(name, codec, (0, 1, 2, 0))
    done = lisard("predict", tiny.classifier().path, path, "--json")
    entries = json.loads(done.out)
    assert done.status == 0 and [e["objects"][0]["label"] for e in entries] == ["red", "green", "blue", "red"]
    assert [e["frame"] for e in entries] == [0, 1, 2, 3] and {e["file"] for e in entries} == {str(path)}
    assert [round(e["time_s"], 6) for e in entries] == [0.0, 0.1, 0.2, 0.3]
    assert f"{name} frame 2 (0.200 s): blue" in lisard("predict", tiny.classifier().path, path).out


def test_a_video_that_breaks_off_is_answered_up_to_there_and_is_status_2(lisard: Any, tiny: Any, video: Any) -> None:
    path = video("drive.avi", "MJPG", (0,) * 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = lisard("predict", tiny.classifier().path, path, "--json")
    *entries, last = json.loads(done.out)
    assert done.status == 2 and 3 < len(entries) < 30 and all(entry["objects"] for entry in entries)
    assert last["frame"] == len(entries) and last["objects"] == []
    assert f"the video breaks off: found {len(entries)} frames, expected 40" in last["error"]


def test_a_folder_is_read_in_the_order_of_its_paths(lisard: Any, tiny: Any, image: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    (folder / "b").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for colour, name in ((2, "c.png"), (0, "a.JPG"), (1, "b/x.png"), (1, ".hidden/x.png")):
        image(colour, "new.png").replace(folder / name)
    (folder / "notes.txt").write_text("no image")
    words = ("predict", tiny.classifier().path, folder, "--save", folder / "out", "--json")
    for _ in range(2):  # the second time the folder holds what the first run wrote
        entries = json.loads(lisard(*words).out)
        assert [Path(e["file"]).relative_to(folder).as_posix() for e in entries] == ["a.JPG", "b/x.png", "c.png"]
        assert [e["objects"][0]["label"] for e in entries] == ["red", "green", "blue"]


def test_annotated_images_show_the_boxes(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), np.full((400, 600, 3), 90, np.uint8))
    done = lisard("predict", tiny.detector(BOXES).path, path, "--save", tmp_path / "new" / "out", "--json")
    (entry,) = json.loads(done.out)
    assert entry["saved"] == str(tmp_path / "new" / "out" / "street_predicted.png")
    drawn = cv2.imread(entry["saved"])
    assert drawn.shape == (400, 600, 3)
    left, top, right, bottom = (round(value) for value in entry["objects"][0]["box"])
    changed = (drawn != 90).any(axis=2)
    assert changed[top : bottom + 1, left].all() and changed[bottom, left : right + 1].all(), "the frame of the box"
    assert not changed[top + 5 : bottom - 5, left + 5 : right - 5].any(), "what it frames stays visible"


def test_saving_overwrites_no_input_and_no_other_answer(lisard: Any, tiny: Any, image: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    second = image(1).replace(tmp_path / "other" / "x.png")
    first, third = image(0, "x.png"), image(2, "x_predicted.png")
    before = [path.read_bytes() for path in (first, second, third)]
    done = lisard("predict", tiny.classifier().path, first, second, third, "--save", tmp_path, "--json")
    assert done.status == 0 and before == [path.read_bytes() for path in (first, second, third)]
    saved = [Path(entry["saved"]).name for entry in json.loads(done.out)]
    assert saved == ["x_predicted_2.png", "x_predicted_3.png", "x_predicted_predicted.png"]
    assert all(cv2.imread(str(tmp_path / name)).shape == (220, 330, 3) for name in saved), "small ones are enlarged"


def test_frames_of_a_video_are_saved_each(lisard: Any, tiny: Any, video: Any, tmp_path: Path) -> None:
    path = video("drive.avi", "MJPG", (0, 1))
    assert lisard("predict", tiny.classifier().path, path, "--save", tmp_path / "out").status == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["drive_000000_predicted.jpg", "drive_000001_predicted.jpg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "1,2,3"], "cannot read --box: found 1,2,3, expected X0,Y0,X1,Y1"),
        (["--box", "a,b,c,d"], "cannot read --box"),
        (["--box", "0,0,nan,1"], "not finite"),
        (["--box", "9,9,3,12"], "--box has no area: found 9,9,3,12"),
        (["--box", "900,900,950,950"], "a box covers no pixel of the frame"),
        (["--box=-9,-9,0,0"], "a box covers no pixel of the frame"),
        (["--top-k", "0"], "top_k >= 1"),
        (["--min-score", "2"], "min_score"),
        (["--backend", "torch"], "has no PyTorch model"),
        (["--save", "{image}"], "cannot write to --save"),
        (["--save", "{image}/out"], "cannot write to --save"),
    ],
)
def test_wrong_use_is_refused(lisard: Any, tiny: Any, image: Any, options: list[str], message: str) -> None:
    """Regression: a box off the image was answered with `nothing` and status 0."""
    path = image(0)
    words = [word.replace("{image}", str(path)) for word in options]
    lisard("predict", tiny.classifier().path, path, *words).refused(message)


def test_a_frame_from_python_is_unchanged_by_drawing() -> None:
    from lisard_ros.reporting import drawing

    frame = Frame(np.full((400, 600, 3), 90, np.uint8), "rgb", 0, "", "")
    drawing.draw(
        frame, [drawing.Caption("a label that is much longer than the image is wide" * 3, 7, (5, 5, 700, 900))]
    )
    assert (frame.image == 90).all()
