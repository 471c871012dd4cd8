"""What ``doctor`` says of the local cameras. Pure; cameras.py asks the devices."""

from __future__ import annotations

from collections.abc import Iterator

from agent.board.cameras import Camera, Cameras
from agent.board.finding import Finding

CONFIGURE_CSI = "sudo /opt/nvidia/jetson-io/jetson-io.py  # says which sensor is on which connector; then restart"
RESTART_ARGUS = (
    "sudo systemctl restart nvargus-daemon  # in a container: -v /tmp/argus_socket:/tmp/argus_socket; "
    "in the service: systemd/drop-ins/csi-camera.conf"
)


def cameras(known: Cameras, *, jetson: bool, container: bool) -> Iterator[Finding]:
    """One for each USB camera, and on a Jetson one for its CSI connectors."""
    usable = [camera for camera in known.cameras if not camera.csi and (camera.captures or camera.denied)]
    for camera in usable:
        yield camera_finding(camera, known.group)
    if not usable:
        pass_on = "; a container sees those of --device /dev/video0" if container else ""
        yield Finding("cameras", "none", f"no USB or other V4L2 camera{pass_on}; streams need none")
    if jetson:
        yield csi(known)


def camera_finding(camera: Camera, group: str) -> Finding:
    """One camera that opencv can read by its ``/dev/videoN``."""
    what, name = f"camera {camera.node}", camera.name or "unnamed"
    if camera.denied:
        advice = f"sudo usermod -aG {group} $USER  # then log in again; the service's user: systemd/sysusers.d"
        return Finding(what, "warn", f"{name}: {camera.fault}, it belongs to group {group}", advice)
    if camera.fault:
        return Finding(what, "warn", f"{name}: {camera.fault}", "unplug it and plug it in again; sudo dmesg says more")
    if not camera.formats:
        return Finding(what, "warn", f"{name}: names no pixel format", "sudo dmesg | tail  # what its driver says")
    return Finding(what, "ok", f"{name}: {', '.join(camera.formats)}")


def csi(known: Cameras) -> Finding:
    """The sensors on a Jetson's CSI connectors, and the program through which alone ``csi://`` gets their pictures."""
    sensors = [camera.name.removeprefix("vi-output").strip(", ") or "unnamed" for camera in known.cameras if camera.csi]
    if not sensors:
        return Finding("CSI cameras", "none", "no sensor is bound", CONFIGURE_CSI)
    told = f"{len(sensors)} (csi://0 …): {', '.join(sensors)}"
    if not known.argus:
        return Finding("CSI cameras", "warn", f"{told}; nvargus-daemon does not listen", RESTART_ARGUS)
    return Finding("CSI cameras", "ok", told)
