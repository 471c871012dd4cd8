"""GStreamer pipelines and CSI cameras: the pipelines as text, and run for real by the distribution's own OpenCV."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

from agent.errors import SourceError
from agent.sources.factory import SourceOptions, open_source
from agent.sources.gstreamer import GStreamerCamera, csi_pipeline, elements_of, has_gstreamer, pipeline_of

PYTHON = Path("/usr/bin/python3")
READ = """
import sys
sys.path.insert(0, sys.argv[1])
from agent.sources.factory import SourceOptions, open_source
from agent.sources.gstreamer import GStreamerCamera, csi_pipeline
from agent.errors import SourceError
spec = sys.argv[2]
if spec.startswith("csi"):
    # Everything of the board's own pipeline that a board is not needed for.
    pipeline = csi_pipeline(0, size=(320, 240), fps=25)
    pipeline = pipeline.replace("nvarguscamerasrc sensor-id=0", "videotestsrc is-live=true num-buffers=40")
    source = GStreamerCamera(pipeline.replace("(memory:NVMM)", "").replace("nvvidconv", "videoconvert"), shown=spec)
else:
    source = open_source(spec)
try:
    source.open()
    sizes = [source.read().pixels.shape for _ in range(20)]
    print("read", len(sizes), sizes[0])
    while True:
        source.read()
except SourceError as error:
    print("error", error)
finally:
    source.close()
"""


def read_with_the_distributions_opencv(spec: str) -> str:
    """What 20 pictures were, and how the pipeline ended."""
    built = "import cv2, sys; sys.exit(not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))"
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", built], capture_output=True, check=False).returncode:
        pytest.skip("no OpenCV with GStreamer here: apt-get install python3-opencv gstreamer1.0-plugins-good")
    command = [str(PYTHON), "-I", "-c", READ, str(REPOSITORY), spec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pipeline_is_read_and_its_end_is_said() -> None:
    spec = "gst:videotestsrc is-live=true num-buffers=30 ! video/x-raw,width=320,height=240,framerate=30/1"
    told = read_with_the_distributions_opencv(spec)
    assert "read 20 (240, 320, 3)" in told
    assert "the pipeline ended or stalled" in told


def test_the_pipeline_of_a_csi_camera_runs_with_another_camera_in_its_place() -> None:
    assert "read 20 (240, 320, 3)" in read_with_the_distributions_opencv("csi://0")


def test_a_pipeline_that_does_not_start_is_said_without_its_password() -> None:
    told = read_with_the_distributions_opencv("gst:nosuchsrc user-id=me user-pw=S3cr ! videoconvert")
    assert "error gst:nosuchsrc" in told
    assert "there is no GStreamer element nosuchsrc here; try the pipeline with gst-launch-1.0" in told
    assert "S3cr" not in told


def test_a_csi_camera_without_its_driver_says_where_to_look() -> None:
    told = read_with_the_distributions_opencv("gst:nvarguscamerasrc")
    assert "there is no GStreamer element nvarguscamerasrc here" in told
    source = open_source("csi://1")
    assert isinstance(source, GStreamerCamera)
    if not has_gstreamer():
        with pytest.raises(SourceError, match=r"built without GStreamer.*--system-site-packages"):
            source.open()


def test_the_elements_of_a_pipeline_are_told_from_caps_properties_and_pads() -> None:
    pipeline = 'rtspsrc location="rtsp://a/b?c!d" ! video/x-raw(memory:NVMM),width=1 ! tee name=t t. ! queue ! appsink'
    assert elements_of(pipeline) == ["rtspsrc", "tee", "queue", "appsink"]


def test_an_opencv_without_gstreamer_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sources.gstreamer.has_gstreamer", lambda: False)
    with pytest.raises(SourceError, match="python3-opencv or JetPack's own"):
        open_source("gst:videotestsrc").open()


def test_a_pipeline_without_a_sink_gets_one_that_keeps_the_newest_picture_alone() -> None:
    completed = pipeline_of("videotestsrc ! ")
    sink = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    assert completed == f"videotestsrc ! {sink}"
    own = "videotestsrc ! appsink name=mine"
    assert pipeline_of(own) == own


def test_size_rate_and_mode_stand_in_the_pipeline_of_a_csi_camera() -> None:
    pipeline = csi_pipeline(1, (1920, 1080), 29.97, 2)
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 sensor-mode=2 ! ")
    assert "width=1920,height=1080,framerate=29970/1000,format=NV12" in pipeline
    source = open_source("csi://1", options=SourceOptions(size=(1920, 1080), fps=29.97, sensor_mode=2))
    assert isinstance(source, GStreamerCamera)
    assert source.pipeline == pipeline
