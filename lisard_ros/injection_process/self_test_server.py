"""Runs one self test in the injection process, reports how far it is, and sends its report."""

from __future__ import annotations

import select
import time

from lisard_ros.errors import LisardError
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.live_images import LiveFrame, in_blocks
from lisard_ros.evaluation.self_test_report import SelfTestProgress
from lisard_ros.injection import AttackSources
from lisard_ros.injection_process.serving import Outlet, Pacing, open_engine
from lisard_ros.injection_process.shared_frame import SharedFrame
from lisard_ros.injection_process.wire import (
    Ready,
    SelfTestDone,
    SelfTestOrder,
    SelfTestRefused,
    SelfTestStep,
    SharedFrameHead,
    StartOrder,
)
from lisard_ros.reporting.self_test_album import SelfTestAlbum


def serve(
    start: StartOrder, order: SelfTestOrder, frames: SharedFrame, orders: int, outlet: Outlet, priority: str
) -> None:
    """Run the test. A byte from `orders`, or its end, ends it early. priority: of this process, for diagnostics."""
    pipeline = open_engine(start)
    outlet.send(Ready(pipeline.choice.backend.description, priority))
    interruption = select.poll()
    interruption.register(orders, select.POLLIN)
    pacing, album = Pacing(pipeline), SelfTestAlbum()

    def follow(progress: SelfTestProgress) -> None:
        pause_s = pacing.pause_s(order.max_share)
        outlet.send(SelfTestStep(progress, pause_s))
        time.sleep(pause_s)
        pacing.restart()

    try:
        report = self_test.run(
            pipeline,
            count=order.count,
            suite=order.suite,
            seed=order.seed,
            cancelled=lambda: bool(interruption.poll(0)),
            limits=order.limits,
            sources=AttackSources(None if start.surrogate is None else start.surrogate.bundle(), threads=start.threads),
            live=None if order.live is None else in_blocks(live_frames(order.live, frames), order.block_s),
            progress=follow,
            watch=album.watch if order.examples else lambda image: None,
        )
    except LisardError as error:  # of what the user asked for
        outlet.send(SelfTestRefused(str(error)))
        return
    outlet.send(SelfTestDone(report, album.examples()))


def live_frames(heads: tuple[SharedFrameHead, ...], memory: SharedFrame) -> list[LiveFrame]:
    """Return the frames whose pixels lie one behind the other in the memory; they are views on it."""
    made, offset = [], 0
    for head in heads:
        pixels = memory.pixels(head.shape, offset)
        made.append(LiveFrame(head.frame(pixels), head.regions))
        offset += pixels.size
    return made
