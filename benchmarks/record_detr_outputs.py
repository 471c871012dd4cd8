"""Records what RT-DETR and D-FINE give and what their own library makes of it: `tests/detection/detr_outputs.npz`.

    python benchmarks/record_detr_outputs.py [--check FOLDER]

Needs torch and transformers, development tools of this script alone. Small networks with random weights are run on a
random picture; raw logits and boxes, and the library's post-processing of them, are kept for the test. ``--check``:
export them to ONNX into FOLDER too, run them through our engine and detector, and compare with the library.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
TARGET = HERE.parent / "tests" / "detection" / "detr_outputs.npz"
CLASSES, QUERIES, SIDE = 5, 30, 128
PICTURE = (97, 151)
"""Height and width of the picture that boxes are told in."""


def networks() -> dict[str, Any]:
    """Small networks with random weights whose scores are spread around a half."""
    import torch
    from transformers import (
        DFineConfig,
        DFineForObjectDetection,
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrResNetConfig,
    )

    torch.manual_seed(7)
    stages = {"hidden_sizes": [16, 24, 32, 48], "depths": [2, 2, 2, 2], "embedding_size": 8, "layer_type": "bottleneck"}
    backbone = RTDetrResNetConfig(**stages, out_features=["stage2", "stage3", "stage4"])
    common = {
        "backbone_config": backbone,
        "encoder_in_channels": [24, 32, 48],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "d_model": 32,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 2,
        "decoder_layers": 2,
        "num_queries": QUERIES,
        "num_labels": CLASSES,
        "num_denoising": 0,
        "anchor_image_size": None,
    }
    made = {
        "rtdetr": RTDetrForObjectDetection(RTDetrConfig(**common)),
        "dfine": DFineForObjectDetection(DFineConfig(**common, feat_strides=[8, 16, 32], num_feature_levels=3)),
    }
    for net in made.values():
        net.eval()
        spread(net)
        for name, parameter in net.named_parameters():
            if "class_embed" in name or "score_head" in name:
                parameter.data.normal_(0, 0.35)
    return made


def spread(net: Any) -> None:
    """Weights and statistics that keep a signal from layer to layer: as they are made, all places of the encoder's map
    score alike, and which of them become queries is chance, another one in ONNX Runtime than in torch."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        net(pixel_values=torch.rand(1, 3, SIDE, SIDE))
    net.eval()


def record(net: Any, picture: Any) -> dict[str, NDArray[Any]]:
    """Raw outputs, a threshold that half of the detections reach, and the library's scores, labels and boxes."""
    import torch

    with torch.no_grad():
        raw = net(pixel_values=picture)
    logits, boxes = raw.logits.numpy().astype(np.float32), raw.pred_boxes.numpy().astype(np.float32)
    best = np.sort(1 / (1 + np.exp(-logits)), axis=None)[-QUERIES:]
    threshold = float(best[QUERIES // 2 - 1 : QUERIES // 2 + 1].mean())
    told = processed(logits, boxes, threshold)
    return {"logits": logits, "pred_boxes": boxes, "threshold": np.array(threshold), **told}


def processed(logits: NDArray[Any], boxes: NDArray[Any], threshold: float) -> dict[str, NDArray[Any]]:
    """What the library makes of raw outputs, in a picture of PICTURE's size."""
    import torch
    from transformers import RTDetrImageProcessor
    from transformers.models.rt_detr.modeling_rt_detr import RTDetrObjectDetectionOutput

    raw = RTDetrObjectDetectionOutput(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes))
    sizes = torch.tensor([PICTURE])
    (found,) = RTDetrImageProcessor().post_process_object_detection(raw, threshold=threshold, target_sizes=sizes)
    return {name: found[name].numpy() for name in ("scores", "labels", "boxes")}


def check(name: str, net: Any, picture: Any, folder: Path) -> str:
    """Export, run through our engine and detector, compare with the library; the differences in words."""
    import torch

    from agent.data import Frame
    from agent.detection.detector import Detector
    from agent.detection.manifest import InputSpec, Manifest, Variant
    from agent.detection.model import write_package
    from agent.engines.onnx import OnnxEngine

    class Raw(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Any) -> tuple[Any, Any]:
            raw = self.net(pixel_values=images)
            return raw.logits, raw.pred_boxes

    path = folder / f"{name}.onnx"
    names = {"input_names": ["images"], "output_names": ["logits", "pred_boxes"]}
    torch.onnx.export(Raw().eval(), (picture,), str(path), opset_version=17, dynamo=False, **names)
    spec = InputSpec(size=(SIDE, SIDE), resize="stretch")
    labels = tuple(f"class {number}" for number in range(CLASSES))
    variant = Variant(precision="fp32", file="net.onnx", sha256="0" * 64)
    manifest = Manifest(name=name, family="detr", labels=labels, input=spec, variant=(variant,))
    package = write_package(folder, manifest, {"net.onnx": path}, replace=True)
    detector = Detector(
        package, OnnxEngine(package.file_of(package.choose())), score=float(record(net, picture)["threshold"])
    )
    detector.warm_up()
    pixels = (picture[0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8)
    found = detector.detect(Frame("check", 0, np.ascontiguousarray(pixels), 0.0, 0.0))
    own = OnnxEngine(path)
    outputs = own.collect(own.submit(picture.numpy()))
    recorded = record(net, picture)
    export = max(float(np.abs(outputs[key] - recorded[key]).max()) for key in ("logits", "pred_boxes"))
    wanted = processed(outputs["logits"], outputs["pred_boxes"], float(recorded["threshold"]))
    scale = np.array([PICTURE[1], PICTURE[0]] * 2) / SIDE
    ours = np.sort(found.scores)[::-1]
    theirs = np.sort(wanted["scores"])[::-1]
    if len(ours) != len(theirs):
        return f"{name}: {len(ours)} detections, the library has {len(theirs)}"
    order, other = np.argsort(-found.scores, kind="stable"), np.argsort(-wanted["scores"], kind="stable")
    boxes = np.clip(wanted["boxes"][other], 0, [PICTURE[1], PICTURE[0]] * 2)
    apart = np.abs(found.boxes[order] * scale - boxes).max() if len(ours) else 0.0
    same = (found.class_ids[order] == wanted["labels"][other]).all()
    worst = np.abs(ours - theirs).max() if len(ours) else 0.0
    figures = f"classes equal {same}, scores within {worst:.1e}, boxes within {apart:.1e} px"
    return f"{name}: {len(ours)} detections as the library, {figures}; ONNX and torch differ by {export:.1e}"


def main() -> int:
    """Record; check where asked to."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", type=Path, help="export to ONNX into this folder and compare ours with the library")
    args = parser.parse_args()
    torch.manual_seed(3)
    picture = (torch.rand(1, 3, SIDE, SIDE) * 255).round() / 255
    arrays: dict[str, NDArray[Any]] = {"picture": np.array(PICTURE)}
    for name, net in networks().items():
        arrays |= {f"{name}_{key}": value for key, value in record(net, picture).items()}
        print(f"{name}: {len(arrays[f'{name}_scores'])} detections of {QUERIES} queries")
        if args.check is not None:
            args.check.mkdir(parents=True, exist_ok=True)
            print(check(name, net, picture, args.check))
    np.savez_compressed(TARGET, **arrays)  # type: ignore[arg-type]
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
