"""`lisard run`: pictures in, answers out; a picture without an answer is exit status 1, wrong use 2."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest


def test_pictures_are_answered(lisard: Any, tiny: Any, picture: Any) -> None:
    bundle = tiny.classifier()
    done = lisard("run", bundle.path, picture(0), picture(2, "blue.jpg"))
    assert done.status == 0
    first, second = done.out.splitlines()
    assert "0.png: red 1.000" in first and "blue.jpg: blue 1.000" in second


def test_boxes_and_json(lisard: Any, tiny: Any, picture: Any) -> None:
    boxes = ("--box", "1,2,9,9", "--box", "0,0,5,5")
    done = lisard("run", tiny.classifier().path, picture(1), *boxes, "--top-k", "2", "--json")
    (answer,) = json.loads(done.out)
    assert done.status == 0 and answer["error"] is None
    assert [a.split("]")[0] for a in answer["answers"]] == ["[1,2,9,9", "[0,0,5,5"]


def test_a_picture_without_an_answer_is_status_1(lisard: Any, tiny: Any, picture: Any, tmp_path: Path) -> None:
    bomb = bytearray(picture(1).read_bytes())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bomb)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    paths = [picture(0), picture(None), *(tmp_path / f"{n}.png" for n in ("bomb", "empty", "text", "none")), tmp_path]
    done = lisard("run", tiny.classifier().path, *paths)
    assert done.status == 1 and done.err == ""
    lines = done.out.splitlines()
    assert "red" in lines[0] and "NaN or infinite" in lines[1]
    assert all("ERROR not a picture" in line for line in lines[2:5])
    assert all("ERROR cannot read the picture" in line for line in lines[5:7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "1,2,3"], "cannot read --box: found 1,2,3, expected X0,Y0,X1,Y1"),
        (["--box", "a,b,c,d"], "cannot read --box"),
        (["--box", "0,0,nan,1"], "not finite"),
        (["--top-k", "0"], "top_k >= 1"),
        (["--min-score", "2"], "min_score"),
        (["--backend", "torch"], "has no torch twin"),
    ],
)
def test_wrong_use_is_refused(lisard: Any, tiny: Any, picture: Any, options: list[str], message: str) -> None:
    lisard("run", tiny.classifier().path, picture(0), *options).refused(message)


def test_a_box_outside_finds_nothing(lisard: Any, tiny: Any, picture: Any) -> None:
    done = lisard("run", tiny.classifier().path, picture(0), "--box", "900,900,950,950")
    assert done.status == 0 and "[900,900,950,950] nothing" in done.out
