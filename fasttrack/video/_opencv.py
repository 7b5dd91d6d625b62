"""The one door to OpenCV: imported at first use, and told not to print."""

from __future__ import annotations

import functools
import os
from types import ModuleType

__all__ = ["opencv", "why_no_window"]


@functools.cache
def opencv() -> ModuleType:
    """OpenCV, with its own messages and FFmpeg's off: what goes wrong is said by our errors.

    Setting ``OPENCV_LOG_LEVEL`` or ``OPENCV_FFMPEG_LOGLEVEL`` brings them back.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read at the first open, not at import
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        # OpenCV 5 moved the function; 0 is "silent" in both.
        set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
        set_level(0)
    module: ModuleType = cv2
    return module


@functools.cache
def why_no_window() -> str | None:
    """Why a live window cannot be opened here, with the way out; None where it can."""
    import subprocess
    import sys

    lines = opencv().getBuildInformation().splitlines()
    gui = next((line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("GUI:")), "NONE")
    if gui == "NONE":
        return (
            "the installed OpenCV is built without windows (opencv-python-headless); on a machine with a display: "
            "pip uninstall opencv-python-headless && pip install opencv-python"
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return (
            "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); use --out to get the overlay as a video"
        )
    # Qt ends the whole process where it cannot reach the display, so a child tries first.
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"]
    try:
        tried = subprocess.run(probe, capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "OpenCV could not open a window within 30 s"
    if tried.returncode != 0:
        said = tried.stderr.decode(errors="replace").strip().splitlines()
        return f"OpenCV ({gui}) could not open a window: {said[0] if said else f'exit code {tried.returncode}'}"
    return None
