"""The service under a real systemd, in a container: ``make test-system``. Prints what each scene showed, in seconds.

Exit codes: 0 all of it was shown, 1 something was not, 69 no container can be booted here (and why). A Debian is made
once, in ``--root``, some 800 MB; everything else happens in memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from container import WHEELS, NoContainerError, booted, default_root, prepare, why_not  # noqa: E402 - added above
from deployment import DEPLOYMENT  # noqa: E402
from scenes import SCENES, UNIT, Stage  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=default_root(), help="where the Debian is kept between runs")
    parser.add_argument("--only", nargs="*", help="scenes by name; first_start always")
    parser.add_argument("--if-possible", action="store_true", help="exit 0 where no container can be booted")
    arguments = parser.parse_args()
    try:
        if reason := why_not():
            raise NoContainerError(reason)
        prepare(arguments.root, print)
        with tempfile.TemporaryDirectory() as name, booted(arguments.root, Path(name) / "console") as container:
            stage = Stage(container, Path(name), arguments.root / WHEELS[1:])
            try:
                stage.install()
                return _play(stage, arguments.only)
            finally:
                stage.close()
    except NoContainerError as error:
        print(f"the service was not tested under a real systemd: {error}")
        return 0 if arguments.if_possible else 69


def _play(stage: Stage, only: list[str] | None) -> int:
    failed = []
    for number, scene in enumerate((*SCENES, *DEPLOYMENT)):
        if only and number and scene.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            shown = scene(stage)
        except BaseException as error:
            failed.append(scene.__name__)
            shown = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            print(stage.container.journal(UNIT, "-n", "25"))
            print(stage.container.run("systemctl", "status", "--no-pager", UNIT, check=False))
            if isinstance(error, KeyboardInterrupt):
                raise
        mark = "FAILED" if failed and failed[-1] == scene.__name__ else "shown"
        print(
            f"{mark:<7} {(scene.__doc__ or '').splitlines()[0]}\n        {shown}  [{time.monotonic() - began:.1f} s]",
            flush=True,
        )
    print("all shown" if not failed else f"not shown: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
