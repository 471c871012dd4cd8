"""Clips that the benchmark plays, made once of the material's by FFmpeg and kept."""

from __future__ import annotations

from pathlib import Path

from bench_places import kept_folder
from bench_process import run_quietly


def repeated(clip: Path, times: int) -> Path:
    """The same pictures so many times over, not encoded anew. Raises ContestantError."""
    return _made(
        kept_folder() / "clips" / f"{clip.stem}-x{times}{clip.suffix}",
        ["-stream_loop", str(times - 1), "-i", str(clip), "-c", "copy", "-an"],
    )


def scaled(clip: Path, height: int) -> Path:
    """Scaled up; H.264 as cameras send it: no B-frames. Raises ContestantError."""
    return _made(
        kept_folder() / "clips" / f"{clip.stem}-{height}p.mp4",
        ["-i", str(clip), "-vf", f"scale=-2:{height}", "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-an"],
    )


def _made(target: Path, words: list[str]) -> Path:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".unfinished-{target.name}")
        run_quietly(["ffmpeg", "-nostdin", "-y", "-loglevel", "error", *words, unfinished], 180.0)
        unfinished.replace(target)
    return target
