"""How the Triton kernels are cut: pure functions of shapes and of the GPU's size, so that nothing is tried
out at run time and a captured graph holds one choice.

The weight is the left operand of the matrix instructions, which comes from registers, where its nibbles are
unpacked; tokens are the right one. None of this was measured on a GPU yet.
"""

from __future__ import annotations

from typing import NamedTuple

# A matrix of 64 x 64 floats is what registers bear; larger ones are cut into 32 x 32.
_WIDEST, _CUT = 64, 32

# The matrix instructions' least depth, in floats.
_NARROWEST = 16

# Numbers of one row that are rotated at a time.
_ROW_TILE = 2048

# Tokens that are rotated at a time where every block has its own matrix.
ROTATED_ROWS = 32


class GemmTile(NamedTuple):
    """Tokens, outputs and inputs of one step; warps that share it; steps whose operands are under way."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


class RotationTile(NamedTuple):
    """A block of `block` columns as `padded`, a power of two, of which `width` are made at a time."""

    block: int
    padded: int
    width: int


# The larger the tile, the fewer the bytes: falling.
_GEMM_TILES = (
    GemmTile(128, 128, 128, 8, 3),
    GemmTile(64, 128, 128, 4, 3),
    GemmTile(64, 64, 128, 4, 4),
    GemmTile(64, 32, 256, 4, 3),
    GemmTile(64, 16, 256, 4, 3),
)


def gemm_tile(rows: int, out_features: int, processors: int, block_out: int = 16) -> GemmTile:
    """Return the largest tile of which every multiprocessor gets one, else the smallest.

    With the 132 of an H100, 49 tokens take 64 x 32 or less and 566 take 128 x 128 to 64 x 64.

    Args:
        rows: M.
        out_features: N.
        processors: how many multiprocessors the GPU has.
        block_out: outputs that have to be in one tile, a power of two up to 64.
    """
    fitting = [tile for tile in _GEMM_TILES if tile.n >= block_out and (tile.m <= 64 or rows > 64)]
    fitting = [tile._replace(m=min(tile.m, max(16, power_of_two(rows)))) for tile in fitting]
    for tile in fitting:
        if -(-rows // tile.m) * -(-out_features // tile.n) >= processors:
            return tile
    return fitting[-1]


def restores_in_tile(blocks: int, block_out: int) -> bool:
    """Whether the GEMM can undo an output rotation of `blocks` matrices: one for all, and within a tile."""
    return blocks == 1 and block_out in (16, 32, 64)


def rotation_tile(block: int) -> RotationTile:
    """Return how a block of any size is rotated."""
    padded = max(_NARROWEST, power_of_two(block))
    return RotationTile(block, padded, padded if padded <= _WIDEST else _CUT)


def rotates_in_row(matrices: int, block: int) -> bool:
    """Whether rows can be rotated one by one: by one matrix for all of their blocks, and a small one."""
    return matrices == 1 and block <= _WIDEST


def blocks_at_a_time(width: int, tile: RotationTile) -> int:
    """Return how many blocks of a row of `width` numbers are rotated together, by one matrix for all."""
    return min(max(16, power_of_two(-(-width // tile.block))), _ROW_TILE // tile.padded)


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least `number`."""
    return 1 << max(0, number - 1).bit_length()
