"""Which families of surfaces, lights, patterns, clutter and occluders a scene may be made of.

TRAINING and EVALUATION share none (a test holds it): what the bundled model is measured on, it has never seen. The four
things themselves are drawn by the same code in both, in other patterns. The camera may show all of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """Names of families, by the tables SURFACES, LIGHTS, PATTERNS, CLUTTER and OCCLUDERS; named twice, seen twice as
    often."""

    surfaces: tuple[str, ...]
    lights: tuple[str, ...]
    patterns: tuple[str, ...]
    clutter: tuple[str, ...]
    occluders: tuple[str, ...]

    def families(self) -> frozenset[str]:
        """All of its families, each as ``table/name``."""
        tables = vars(self).items()
        return frozenset(f"{table}/{name}" for table, names in tables for name in names)


TRAINING = Domain(
    surfaces=("planks", "veneer", "laminate", "linen", "leather", "brushed", "printed", "collage"),
    lights=("window", "lamp", "overcast"),
    patterns=("plain", "stripes", "dots", "blocks", "gradient", "photo"),
    clutter=(
        "box",
        "slate",
        "wallet",
        "remote",
        "keyboard",
        "sheet",
        "card",
        "poster",
        "plate",
        "coaster",
        "bowl",
        "cloth",
        "strips",
        "strap",
        *("trinket",) * 6,
    ),
    occluders=("pen", "cable", "band", "scrap", "scrap", "offcut", "offcut", "lattice"),
)
FIRST_EVALUATION = Domain(
    surfaces=("marble", "tiles", "terrazzo", "herringbone", "concrete"),
    lights=("blinds", "foliage", "dusk"),
    patterns=("waves", "checks", "rings", "triangles", "marbling"),
    clutter=("tray", "powerbank", "calculator", "envelope", "saucer", "dial", "tape", "pebble"),
    occluders=("ruler", "leaf", "glasses", "ribbon"),
)
EVALUATION = Domain(
    surfaces=(*FIRST_EVALUATION.surfaces, "cork", "hexagons"),
    lights=(*FIRST_EVALUATION.lights, "spots"),
    patterns=(*FIRST_EVALUATION.patterns, "zigzag", "confetti"),
    clutter=(*FIRST_EVALUATION.clutter, "notepad", "cassette", "lid"),
    occluders=(*FIRST_EVALUATION.occluders, "beads", "comb"),
)
"""The first ones and those drawn after the bundled model was trained: nobody could have trained towards them."""
CAMERA = Domain(
    surfaces=("planks", "veneer", "laminate", "linen", "marble", "herringbone", "concrete"),
    lights=TRAINING.lights + FIRST_EVALUATION.lights,
    patterns=TRAINING.patterns + FIRST_EVALUATION.patterns,
    clutter=tuple(name for name in TRAINING.clutter if name != "trinket") + FIRST_EVALUATION.clutter,
    occluders=("pen", "cable", "band", *FIRST_EVALUATION.occluders),
)
