"""Detection data: COCO, KITTI, YOLO and Pascal VOC lists, read into one typed annotation and held as uint8 scenes."""

from .annotation import Annotated, Annotations, Box
from .kinds import READERS, load
from .scenes import IGNORED, NOTHING, Scenes, SceneSplit
from .settings import DetectionData

__all__ = [
    "IGNORED", "NOTHING", "READERS", "Annotated", "Annotations", "Box", "DetectionData", "SceneSplit", "Scenes", "load",
]  # fmt: skip
