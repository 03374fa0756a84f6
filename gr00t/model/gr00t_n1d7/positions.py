"""Where patches and tokens are: learned positions, rotary angles of patches, and rotary positions of tokens.

An image of h x w patches is merged in squares of m x m into (h / m) x (w / m) tokens; its patches come square
by square. Nothing here is a parameter, and all angles are float32, whatever the model's dtype: frequencies
that are rounded to bfloat16 would be off by up to 0.04 rad at the 45th token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Grid = tuple[int, int]


def patch_places(grid: Grid, merge: int) -> tuple[Tensor, Tensor]:
    """Row and column of every patch (h * w,) of one image, in the order of the patches."""
    height, width = grid

    def in_order(places: Tensor) -> Tensor:
        squares = places.expand(height, width).view(height // merge, merge, width // merge, merge)
        return squares.transpose(1, 2).flatten()

    return in_order(torch.arange(height).unsqueeze(1)), in_order(torch.arange(width).unsqueeze(0))


def learned_positions(grid: Grid, merge: int, side: int) -> tuple[Tensor, Tensor]:
    """How the positions of one image follow from a learned table of side x side, bilinearly, ends on ends.

    Returns:
        Rows of the table (4, h * w), and their weights (4, h * w) float32.
    """
    lower, upper, share = [], [], []
    for places, count in zip(patch_places(grid, merge), grid, strict=True):
        at = torch.linspace(0, side - 1, count)[places]
        whole = at.long()
        lower.append(whole)
        upper.append((whole + 1).clamp(max=side - 1))
        share.append(at - whole)
    (top, left), (bottom, right), (down, across) = lower, upper, share
    rows = torch.stack([top * side + left, top * side + right, bottom * side + left, bottom * side + right])
    weights = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    return rows, torch.stack(weights)


def patch_angles(grid: Grid, merge: int, head_dim: int, theta: float) -> Tensor:
    """Rotary angles (h * w, head_dim / 2) of one image's patches: those of the row, then of the column."""
    rates = frequencies(head_dim // 2, theta)
    return torch.cat([places.unsqueeze(1).float() * rates for places in patch_places(grid, merge)], dim=1)


def token_positions(images: Tensor, valid: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Positions of tokens in time, rows and columns, (3, B, T) int64.

    A token of text is one further than what is before it, in all three. An image's tokens share one time and
    spread in rows and columns; what follows is as far on as the image is long. Padding does not count.

    Args:
        images: (B, T) bool, True on the tokens of images.
        valid: (B, T) bool, False on padding.
        grids: tokens in rows and columns of every image, those of sample 0 first.
    """
    positions = torch.ones(3, *images.shape, dtype=torch.int64)
    left = iter(grids)
    for sample, (is_image, is_valid) in enumerate(zip(images, valid, strict=True)):
        parts, at = [], 0
        of_image = is_image[is_valid].tolist()
        token = 0
        while token < len(of_image):
            if of_image[token]:
                height, width = next(left)
                rows = torch.arange(height).repeat_interleave(width)
                columns = torch.arange(width).repeat(height)
                parts.append(at + torch.stack([torch.zeros_like(rows), rows, columns]))
                token, at = token + height * width, at + max(height, width)
            else:
                text = next((n for n in range(token, len(of_image)) if of_image[n]), len(of_image)) - token
                parts.append((at + torch.arange(text)).expand(3, -1))
                token, at = token + text, at + text
        positions[:, sample, is_valid] = torch.cat(parts, dim=1)
    return positions


def token_angles(positions: Tensor, head_dim: int, theta: float, section: Sequence[int]) -> Tensor:
    """Rotary angles (B, T, head_dim / 2) of tokens, whose frequencies take turns in time, rows and columns.

    Args:
        positions: (3, B, T).
        head_dim: width of an attention head.
        theta: base of the frequencies.
        section: how many frequencies are for time, rows and columns; every third one is for rows, every third
            for columns, until they have theirs, and the others for time.
    """
    rates = frequencies(head_dim, theta).to(positions.device)
    axes = torch.zeros(len(rates), dtype=torch.int64)
    for axis in (1, 2):
        axes[axis : 3 * section[axis] : 3] = axis
    return positions[axes.to(positions.device)].permute(1, 2, 0).float() * rates


def frequencies(width: int, theta: float) -> Tensor:
    """The rotary frequencies theta^(-2i / width), (width / 2,) float32.

    Always of the CPU: another device's pow differs in the last bit.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width
    return 1.0 / theta**exponents


def rotations(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., head_dim) of angles (..., head_dim / 2), for both halves of a head."""
    both = torch.cat([angles, angles], dim=-1)
    return both.cos(), both.sin()
