"""What users would pick instead, each in a virtual environment of its own that may be thrown away.

    python benchmarks/peers/make.py [ultralytics] [inference] [trackers] [openvino]     without names: all of them

They are for `make bench` to run beside us, and nothing of ours depends on them: Ultralytics is AGPL-3.0. Ultralytics
and Roboflow's inference bring PyTorch and take six and seven gigabytes. Where they lie: ``$EDGEWARDEN_BENCH/peers``, by
default ``.bench/peers`` in the checkout; delete that folder and they are gone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_places import MADE, peer_python, peers_folder

PACKAGES = {
    "ultralytics": ("ultralytics", "onnxruntime", "opencv-python-headless"),
    "inference": ("inference", "supervision"),
    "trackers": ("trackers", "motmetrics", "lapx", "msgspec", "numpy"),
    "openvino": ("openvino", "numpy", "opencv-python-headless"),
}


def make(name: str) -> None:
    """A fresh environment with the peer in it; nothing is left of one that could not be made."""
    folder = peers_folder() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        # What a peer writes about itself into the user's home belongs into the folder that may be thrown away.
        subprocess.run([str(python), "-c", f"import {name}"], check=True, env={**os.environ, "HOME": str(folder)})
        (folder / MADE).touch()
    except (subprocess.CalledProcessError, OSError, KeyboardInterrupt):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def main() -> int:
    """Make what was asked for; 1 when one of them could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PACKAGES], help="which (default: all)")
    failed = []
    for name in parser.parse_args().names or PACKAGES:
        if peer_python(name) is not None:
            print(f"{name}: is there already, {peers_folder() / name}")
            continue
        print(f"{name}: installing {', '.join(PACKAGES[name])}", flush=True)
        try:
            make(name)
        except (subprocess.CalledProcessError, OSError) as error:
            failed.append(name)
            print(f"{name}: could not be made: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
