"""The benchmark's reference: a DirectPred step in idiomatic PyTorch, without augmentation."""

import copy

import torch
from torch import nn

TAU, RHO, EPS = 0.996, 0.3, 0.1


class Block(nn.Module):
    """The basic block of ResNet-18 (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def online_network(width: int, stem: str = "small") -> nn.Sequential:
    """Builds ResNet-18 with either stem and a two-layer projector: [B, 3, H, W] -> [B, 128]."""
    size, stride, padding = (7, 2, 3) if stem == "large" else (3, 1, 1)
    first = nn.Conv2d(3, width, size, stride, padding, bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2, 1)] if stem == "large" else []
    inputs = width
    for stage in range(4):
        for index in range(2):
            channels = width * 2**stage
            layers.append(Block(inputs, channels, 2 if stage > 0 and index == 0 else 1))
            inputs = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = [
        nn.Linear(inputs, 512),
        nn.BatchNorm1d(512, affine=False),
        nn.ReLU(),
        nn.Linear(512, 128, bias=False),
    ]
    return nn.Sequential(*layers, *head)


class TorchStep:
    """Each call makes one DirectPred step, always on the same two views, and returns the loss.

    Args:
        width: channels of the first stage.
        batch_size: images per view.
        ema: whether the target is a moving average of the online network, or the network itself.
        bfloat16: whether to use bfloat16 autocast and channels last, instead of float32.
        image_size: height and width of the views.
        stem: "small" or "large".
    """

    def __init__(
        self,
        width: int,
        batch_size: int,
        ema: bool,
        bfloat16: bool,
        image_size: int = 32,
        stem: str = "small",
    ) -> None:
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = torch.channels_last if bfloat16 else torch.contiguous_format
        self.online = online_network(width, stem).to(self.device, memory_format=layout)
        self.target = copy.deepcopy(self.online).requires_grad_(False) if ema else None
        self.optimizer = torch.optim.SGD(self.online.parameters(), 0.03, momentum=0.9, weight_decay=4e-4)
        self.bfloat16 = bfloat16
        shape = (batch_size, 3, image_size, image_size)
        self.views = [torch.randn(shape, device=self.device).to(memory_format=layout) for _ in range(2)]
        self.correlation = None
        self.weight = torch.eye(128, device=self.device)

    def __call__(self) -> float:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            z1, z2 = (self.online(view).float() for view in self.views)
            if self.target is None:
                t1, t2 = z1.detach(), z2.detach()
            else:
                with torch.no_grad():
                    t1, t2 = (self.target(view).float() for view in self.views)
        loss = -sum(
            nn.functional.cosine_similarity(z @ self.weight.T, t).mean() for z, t in ((z1, t2), (z2, t1))
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self._set_predictor(torch.cat([z1, z2]))
            if self.target is not None:
                for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
                    target.mul_(TAU).add_(online, alpha=1 - TAU)
        return loss.item()

    def _set_predictor(self, z: torch.Tensor) -> None:
        new = z.T @ z / len(z)
        self.correlation = new if self.correlation is None else RHO * self.correlation + (1 - RHO) * new
        s, u = torch.linalg.eigh(self.correlation)
        s = s.clamp(min=0)
        self.weight = (u * ((s / s.max()).sqrt() + EPS)) @ u.T
