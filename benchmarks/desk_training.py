"""Trains the bundled detector on scenes of the TRAINING domain and writes it as ONNX. The one place that needs PyTorch.

A small anchor-free detector: plain convolutions, two levels (strides 8 and 16), one box an anchor point as distances
to its four sides (FCOS, Tian et al. 2019), targets assigned by task alignment (TOOD, Feng et al. 2021), trained with
binary cross entropy and CIoU (Zheng et al. 2020). The exported output is that of the YOLOv8 family.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from desk_scenes import INPUT, LEAST_VISIBLE, PAD, Drawing, Drawn
from torch import Tensor, nn
from torch.nn import functional

from agent.sources.desk.things import LABELS

STRIDES = (8, 16)
CLASSES = len(LABELS)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Any:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):  # type: ignore[misc]
    """x + conv3x3(conv1x1(x))."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, hidden, 1), _conv(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Head(nn.Module):  # type: ignore[misc]
    """One level's distances (in strides) and class logits."""

    def __init__(self, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.points = (INPUT[0] // stride) * (INPUT[1] // stride)
        self.trunk = _conv(channels, hidden)
        self.sides = nn.Conv2d(hidden, 4, 1)
        self.classes = nn.Conv2d(hidden, CLASSES, 1)
        nn.init.constant_(self.sides.bias, 2.0)
        nn.init.constant_(self.classes.bias, -math.log(99.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(x)
        sides, classes = self.sides(trunk), self.classes(trunk)
        return sides.reshape(-1, 4, self.points), classes.reshape(-1, CLASSES, self.points)


def anchor_points() -> tuple[Tensor, Tensor]:
    """Centres [A, 2] in pixels of the input and strides [A, 1] of all anchor points, level by level, row by row."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = INPUT[1] // stride, INPUT[0] // stride
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        points.append(torch.stack([x, y], -1).reshape(-1, 2) * stride)
        strides.append(torch.full((rows * columns, 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


class DeskNet(nn.Module):  # type: ignore[misc]
    """[N, 3, 256, 320], RGB 0..1 -> [N, 4 + C, A]: cx, cy, w, h in pixels, then the classes' scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, 3, 2), _conv(16, 24, 3, 2), Residual(24, 12))
        self.level3 = nn.Sequential(_conv(24, 40, 3, 2), Residual(40, 20), Residual(40, 20))
        self.level4 = nn.Sequential(_conv(40, 64, 3, 2), Residual(64, 24), Residual(64, 24))
        self.level5 = nn.Sequential(_conv(64, 72, 3, 2), Residual(72, 24), Residual(72, 24))
        self.from5, self.from4 = _conv(72, 64, 1), _conv(64, 40, 1)
        self.merge4, self.merge3 = Residual(64, 24), Residual(40, 20)
        self.head3, self.head4 = Head(40, 40, 8), Head(64, 48, 16)
        points, strides = anchor_points()
        self.register_buffer("points", points.T[None].contiguous())
        self.register_buffer("strides", strides.T[None].contiguous())

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [N, 4, A] as x1, y1, x2, y2 and class logits [N, C, A]."""
        three = self.level3(self.stem(x))
        four = self.level4(three)
        four = self.merge4(four + functional.interpolate(self.from5(self.level5(four)), scale_factor=2.0))
        three = self.merge3(three + functional.interpolate(self.from4(four), scale_factor=2.0))
        (sides3, classes3), (sides4, classes4) = self.head3(three), self.head4(four)
        sides = functional.softplus(torch.cat([sides3, sides4], 2)) * self.strides
        boxes = torch.cat([self.points - sides[:, :2], self.points + sides[:, 2:]], 1)
        return boxes, torch.cat([classes3, classes4], 2)

    def forward(self, x: Tensor) -> Tensor:
        boxes, logits = self.raw(x)
        low, high = boxes[:, :2], boxes[:, 2:]
        return torch.cat([(low + high) * 0.5, high - low, logits.sigmoid()], 1)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """[B, M, 4] against [B, A, 4] -> [B, M, A]."""
    low = torch.maximum(first[:, :, None, :2], second[:, None, :, :2])
    high = torch.minimum(first[:, :, None, 2:], second[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (first, second)]
    return common / (areas[0][:, :, None] + areas[1][:, None, :] - common + 1e-7)


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU of boxes [K, 4], pair by pair (Zheng et al. 2020, eq. 10)."""
    overlap = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    common = overlap.prod(1)
    size1, size2 = (first[:, 2:] - first[:, :2]).clamp(min=1e-3), (second[:, 2:] - second[:, :2]).clamp(min=1e-3)
    iou = common / (size1.prod(1) + size2.prod(1) - common + 1e-7)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    apart = ((first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) ** 2).sum(1) / 4
    bent = torch.atan(size2[:, 0] / size2[:, 1]) - torch.atan(size1[:, 0] / size1[:, 1])
    v = 4 / math.pi**2 * bent**2
    with torch.no_grad():
        alpha = v / (1 - iou + v + 1e-7)
    return iou - apart / ((hull**2).sum(1) + 1e-7) - alpha * v


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign(boxes: Tensor, scores: Tensor, points: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which anchor points answer for which object, by task alignment.

    boxes [B, A, 4], scores [B, A, C], points [A, 2], truth [B, M, 6] -> the object's index [B, A] (-1 for none), the
    class targets [B, A, C], and the points [B, A] that lie on something too hidden to be asked for.
    """
    labels, objects, visible = truth[..., 0].long(), truth[..., 1:5], truth[..., 5]
    asked = (labels >= 0) & (visible >= LEAST_VISIBLE)
    low = points[None, None] - objects[:, :, None, :2]
    inside = torch.minimum(low, objects[:, :, None, 2:] - points[None, None]).amin(-1) > 0
    hidden = (inside & (~asked & (labels >= 0))[..., None]).any(1)
    iou = pairwise_iou(objects, boxes) * inside * asked[..., None]
    own = scores.transpose(1, 2).gather(1, labels.clamp(min=0)[..., None].expand(-1, -1, points.shape[0]))
    aligned = own.sqrt() * iou**6
    best = torch.zeros_like(inside).scatter_(2, aligned.topk(10, 2).indices, torch.ones_like(inside))
    chosen = best & (aligned > 0)
    rival = torch.where(chosen, iou, -torch.ones_like(iou))
    index = rival.argmax(1)
    index = torch.where(chosen.any(1), index, -torch.ones_like(index))
    quality = aligned / (aligned.amax(2, keepdim=True) + 1e-9) * iou.amax(2, keepdim=True)
    weight = quality.gather(1, index.clamp(min=0)[:, None])[:, 0] * (index >= 0)
    kind = labels.gather(1, index.clamp(min=0)).clamp(min=0)
    return index, functional.one_hot(kind, CLASSES) * weight[..., None], hidden & (index < 0)


def loss_of(net: Any, pictures: Tensor, truth: Tensor) -> Tensor:
    """Classification and box loss of a batch."""
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        boxes, logits = net.raw(pictures)
    boxes, logits = boxes.float().transpose(1, 2), logits.float().transpose(1, 2)
    points = net.points[0].T
    index, target, hidden = assign(boxes, logits.sigmoid(), points, truth)
    total = target.sum().clamp(min=1)
    classes = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    chosen = index >= 0
    objects = truth[..., 1:5].gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 4))[chosen]
    sides = (1 - ciou(boxes[chosen], objects)) * target.sum(-1)[chosen]
    return (classes * ~hidden[..., None]).sum() / total + 5.0 * sides.sum() / total


def _uniform(count: int, low: float, high: float, device: Any) -> Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def _zoomed(pictures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrored, made larger or smaller, shifted; what leaves the picture counts as less visible."""
    count, device = len(pictures), pictures.device
    size = torch.tensor(INPUT, device=device, dtype=torch.float32)
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    zoom, shift = _uniform(count, 0.8, 1.25, device), (torch.rand(count, 2, device=device) - 0.5) * 0.24
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = mirror / zoom, 1 / zoom
    theta[:, 0, 2], theta[:, 1, 2] = -shift[:, 0] * 2 * mirror / zoom, -shift[:, 1] * 2 / zoom
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    grey = PAD / 255
    pictures = functional.grid_sample(pictures - grey, grid, align_corners=False) + grey
    corners = truth[..., 1:5].reshape(count, -1, 2, 2) / size * 2 - 1
    way = torch.stack([mirror, torch.ones_like(mirror)], 1)[:, None, None]
    corners = corners * way * zoom[:, None, None, None] + 2 * shift[:, None, None]
    corners = torch.stack([corners.amin(2), corners.amax(2)], 2)
    kept = corners.clamp(-1, 1)
    share = (kept[:, :, 1] - kept[:, :, 0]).prod(-1) / ((corners[:, :, 1] - corners[:, :, 0]).prod(-1) + 1e-6)
    boxes = (kept + 1) / 2 * size
    return pictures, torch.cat([truth[..., :1], boxes.flatten(2), truth[..., 5:] * share[..., None]], -1)


def _turned(pictures: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's place [B, H, W] along and across a direction of each picture's own, from its own point x, y [B]."""
    count, (height, width) = len(pictures), pictures.shape[-2:]
    angle = _uniform(count, 0, math.pi, pictures.device)[:, None, None]
    rows = torch.arange(height, device=pictures.device)[None, :, None] - y[:, None, None]
    columns = torch.arange(width, device=pictures.device)[None, None] - x[:, None, None]
    return columns * angle.cos() + rows * angle.sin(), rows * angle.cos() - columns * angle.sin()


def _aimed(truth: Tensor) -> tuple[Tensor, Tensor]:
    """A point of each picture: in seven of ten within something that it shows, else anywhere."""
    count, device = len(truth), truth.device
    free = [_uniform(count, 0, side, device) for side in INPUT]
    picked = torch.multinomial((truth[..., 0] >= 0).float() + 1e-6, 1)[:, 0]
    one = truth[torch.arange(count, device=device), picked]
    on = (one[:, 0] >= 0) & (torch.rand(count, device=device) < 0.7)
    within = [one[:, k + 1] + _uniform(count, 0, 1, device) * (one[:, k + 3] - one[:, k + 1]) for k in (0, 1)]
    return torch.where(on, within[0], free[0]), torch.where(on, within[1], free[1])


def _pasted(pictures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """A strip, a block or an ellipse laid across half of the pictures: an occluder that nobody drew.

    It is a cut-out of another picture, shifted and recoloured, or one colour. What it hides of a thing's box counts as
    less visible; the box stays as it is, which is why no cut-out is wide.
    """
    count, device = len(pictures), pictures.device
    u, v = _turned(pictures, *_aimed(truth))
    girth = _uniform(count, 1.5, 11, device)
    reach = girth * torch.exp(_uniform(count, 0, 3, device))
    u, v = u / reach[:, None, None], v / girth[:, None, None]
    round_ones = (torch.rand(count, device=device) < 0.4)[:, None, None]
    bend = _uniform(count, -2, 2, device)[:, None, None] * (torch.rand(count, device=device) < 0.4)[:, None, None]
    v = v + bend * (u * u - 0.3)
    distance = torch.where(round_ones, (u * u + v * v).sqrt(), torch.maximum(u.abs(), v.abs()))
    hollow = torch.where(torch.rand(count, device=device) < 0.15, _uniform(count, 0.4, 0.8, device), -1.0)
    mask = (distance < 1) & (distance > hollow[:, None, None])
    mask = (mask & (torch.rand(count, device=device) < 0.5)[:, None, None]).float()
    colour = torch.rand(count, 3, 1, 1, device=device)
    other = pictures.roll((1, *torch.randint(20, 200, (2,)).tolist()), (0, 2, 3))
    share = (torch.rand(count, device=device) < 0.6).float()[:, None, None, None] * 0.8
    cut = other * share + colour * (1 - share)
    shadow = functional.avg_pool2d(mask.roll((2, 2), (1, 2))[:, None], 7, 1, 3) * 0.4
    laid = (pictures * (1 - shadow)).lerp(cut, mask[:, None])
    return laid, torch.cat([truth[..., :5], truth[..., 5:] * (1 - _covered(mask, truth))[..., None]], -1)


def _covered(mask: Tensor, truth: Tensor) -> Tensor:
    """Which share of each box [B, M] the mask [B, H, W] hides."""
    total = functional.pad(mask.cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
    x1, y1, x2, y2 = truth[..., 1:5].round().long().unbind(-1)
    (x1, x2), (y1, y2) = ((low.clamp(0, side), high.clamp(0, side)) for low, high, side in
                          ((x1, x2, INPUT[0]), (y1, y2, INPUT[1])))  # fmt: skip
    row = INPUT[0] + 1
    hidden = sum(sign * total.gather(1, y * row + x) for sign, y, x in
                 ((1, y2, x2), (-1, y1, x2), (-1, y2, x1), (1, y1, x1)))  # fmt: skip
    return (hidden / ((x2 - x1) * (y2 - y1)).clamp(min=1)).clamp(0, 1)


def _gains(pictures: Tensor) -> Tensor:
    """Light [B, 1, H, W] around 1: a gradient, and over half of the pictures the edge of a shadow."""
    count, device = len(pictures), pictures.device
    x, y = (_uniform(count, 0, side, device) for side in INPUT)
    along, _ = _turned(pictures, x, y)
    slope = along / INPUT[0] * _uniform(count, -0.5, 0.5, device)[:, None, None]
    along, _ = _turned(pictures, x, y)
    edge = torch.sigmoid(along / _uniform(count, 1, 25, device)[:, None, None])
    depth = _uniform(count, 0, 0.5, device) * (torch.rand(count, device=device) < 0.5)
    return ((1 + slope) * (1 - depth[:, None, None] * edge)).clamp(0.3, 1.8)[:, None]


def augmented(pictures: Tensor, truth: Tensor, pasted: int = 2) -> tuple[Tensor, Tensor]:
    """uint8 [B, H, W, 3] to float [B, 3, H, W], another one each time: geometry, occlusion, light, tint, noise.

    ``pasted``: how many cut-outs may be laid across a picture.
    """
    floats, truth = _zoomed(pictures.permute(0, 3, 1, 2).float() / 255, truth)
    for _ in range(pasted):
        floats, truth = _pasted(floats, truth)
    floats = floats * _gains(floats)
    count, device = len(floats), floats.device
    tint = (
        _uniform(count * 3, 0.85, 1.15, device).view(count, 3, 1, 1)
        * _uniform(count, 0.75, 1.25, device)[:, None, None, None]
    )
    contrast = _uniform(count, 0.8, 1.25, device)[:, None, None, None]
    mean = floats.mean((1, 2, 3), keepdim=True)
    grey = floats.mean(1, keepdim=True)
    floats = grey + (floats - grey) * _uniform(count, 0.5, 1.4, device)[:, None, None, None]
    floats = ((floats - mean) * contrast + mean) * tint
    floats = floats + torch.randn_like(floats) * _uniform(count, 0, 0.035, device)[:, None, None, None]
    return floats.clamp(0, 1), truth


class Shelf:
    """What is drawn so far, on the device that trains."""

    def __init__(self, drawing: Drawing | Drawn, device: Any) -> None:
        self._drawing, self.count = drawing, 0
        self._pictures = torch.empty(drawing.pictures.shape, dtype=torch.uint8, device=device)
        self._truth = torch.empty(drawing.truth.shape, device=device)

    def refill(self) -> None:
        """Take over what was drawn since the last time."""
        new = slice(self.count, self._drawing.ready)
        self._pictures[new] = torch.from_numpy(self._drawing.pictures[new]).to(self._pictures.device)
        self._truth[new] = torch.from_numpy(self._drawing.truth[new]).to(self._truth.device)
        self.count = new.stop

    def batches(self, size: int, pasted: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of it once, in another order each time, augmented."""
        order = torch.randperm(self.count, device=self._truth.device)
        for start in range(0, self.count - size + 1, size):
            chosen = order[start : start + size]
            yield augmented(self._pictures[chosen], self._truth[chosen], pasted)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _follow(average: Any, net: Any, decay: float) -> None:
    pairs = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    kept, new = zip(*((a, b) for a, b in pairs if a.dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(kept, new, 1 - decay)


def _optimizer(net: Any, rate: float) -> Any:
    """AdamW; biases and normalisation do not decay."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _step(net: Any, optimizer: Any, rate: float, pictures: Tensor, truth: Tensor) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(net, pictures, truth)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimizer.step()
    return loss.detach()


def fit(
    drawing: Drawing | Drawn,
    seconds: float,
    batch: int,
    rate: float,
    seed: int,
    resume: Path | None = None,
    pasted: int = 2,
) -> Any:
    """Train for so many seconds on what is drawn meanwhile; returns the averaged network, on the CPU.

    ``resume``: an exported network to go on from; ``pasted``: see augmented().
    """
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    drawing.wait_for(4 * batch)
    first = torch.from_numpy(drawing.pictures[: min(batch, 64)].copy()).permute(0, 3, 1, 2).float() / 255
    net = (resumed(resume, first) if resume else DeskNet()).train().to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    shelf, optimizer = Shelf(drawing, device), _optimizer(net, rate)
    begun, step, told = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - begun) / seconds) < 1:
        shelf.refill()
        for pictures, truth in shelf.batches(batch, pasted):
            step += 1
            share = min(1.0, (time.monotonic() - begun) / seconds)
            now = rate * min(1.0, step / 200) * max(0.005, 0.5 + 0.5 * math.cos(math.pi * share))
            loss = _step(net, optimizer, now, pictures, truth)
            _follow(average, net, min(0.999, step / (step + 20)))
            if share >= 1:
                break
        if share - told > 0.05:
            told = share
            print(f"{share:4.0%}: step {step}, {shelf.count} scenes, loss {loss.item():.3f}", flush=True)
    return average.cpu().eval()


def _called(net: Any, kind: type, example: Tensor) -> list[Any]:
    """The modules of a kind in the order in which a forward pass calls them."""
    order: list[Any] = []
    called = [module for module in net.modules() if issubclass(type(module), kind)]
    handles = [module.register_forward_hook(lambda self, *_: order.append(self)) for module in called]
    with torch.no_grad():
        net(example)
    for handle in handles:
        handle.remove()
    return order


def resumed(path: Path, pictures: Tensor) -> Any:
    """A network that computes what an exported one does, and can be trained on.

    Batch normalisation was folded into the convolutions. It is put back so that it undoes itself: its statistics are
    those that the convolutions' outputs have on ``pictures`` (float [N, 3, H, W]).
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    net = DeskNet().eval()
    for convolution, node in zip(_called(net, nn.Conv2d, pictures[:1]), nodes, strict=True):
        convolution.weight.data.copy_(tensors[node.input[1]])
        bias = tensors[node.input[2]]
        if convolution.bias is not None:
            convolution.bias.data.copy_(bias)
        convolution.folded = bias
    pairs = [(body[0], body[1]) for body in net.modules() if isinstance(body, nn.Sequential) and _normalised(body)]
    for convolution, norm in pairs:
        norm.running_var.fill_(1 - norm.eps)
        norm.bias.data.copy_(convolution.folded)
    handles = [norm.register_forward_pre_hook(_measure) for _, norm in pairs]
    with torch.no_grad():
        net(pictures)
    for handle in handles:
        handle.remove()
    for _, norm in pairs:
        norm.bias.data.add_(norm.seen[0])
        norm.weight.data.copy_((norm.seen[1] + norm.eps).sqrt())
        norm.running_mean.copy_(norm.seen[0])
        norm.running_var.copy_(norm.seen[1])
    return net


def _normalised(body: Any) -> bool:
    return len(body) == 3 and isinstance(body[1], nn.BatchNorm2d)


def _measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    norm.seen = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)


def export(net: Any, path: Path) -> None:
    """One ONNX file: batch normalisation folded, batch axis dynamic, float32."""
    example = torch.from_numpy(np.zeros((1, 3, INPUT[1], INPUT[0]), np.float32))
    torch.onnx.export(
        net,
        (example,),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
