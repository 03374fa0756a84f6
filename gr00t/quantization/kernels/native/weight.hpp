// From packed codes to `g * c + OFFSET` in bytes, in any format: what isa/ has no way of its own for.
#pragma once
#include "panel.hpp"

namespace KERNEL {

// Fields of WIDTH bits, `bytes` bytes of them, on top of what is in `out`, `shift` bits up. See numerics/packing.py.
template <int WIDTH>
static inline void add_plane(const uint8_t* packed, int64_t bytes, int shift, uint8_t* out) {
  constexpr int PER_HALF = 4 / WIDTH;
  for (int64_t i = 0; i < bytes; i++) {
    uint8_t* to = out + i / 4 * 8 * PER_HALF + i % 4 * 2;
    for (int q = 0; q < PER_HALF; q++) {
      for (int h = 0; h < 2; h++) {
        const int field = packed[i] >> (4 * h + WIDTH * q) & ((1 << WIDTH) - 1);
        to[8 * q + h] = (uint8_t)(to[8 * q + h] | field << shift);
      }
    }
  }
}

// Integers [first, first + CHUNK) of a row of `count` of `bits` bits; `first` a multiple of 32. Zeros after the last.
static void unpack_integers(const uint8_t* row, int64_t count, int64_t bits, int64_t first, int8_t* out) {
  const int64_t here = smaller(CHUNK, count - first);
  memset(out, 0, CHUNK);
  if (bits == 8) {
    memcpy(out, row + first, (size_t)here);
    return;
  }
  uint8_t* fields = (uint8_t*)out;
  int shift = 0;
  if (bits & 4) {
    add_plane<4>(row + first / 2, packed_bytes(here, 4), shift, fields);
    row += packed_bytes(count, 4);
    shift = 4;
  }
  if (bits & 2) {
    add_plane<2>(row + first / 4, packed_bytes(here, 2), shift, fields);
    row += packed_bytes(count, 2);
    shift += 2;
  }
  if (bits & 1) add_plane<1>(row + first / 8, packed_bytes(here, 1), shift, fields);
  const int sign = 1 << (bits - 1);
  for (int i = 0; i < CHUNK; i++) out[i] = (int8_t)((fields[i] ^ sign) - sign);
}

// Inputs [k, k + CHUNK) of row n, the even and the odd ones apart; zeros and their offset after K.
static void unpack_row(const Arguments& a, int64_t n, int64_t k, uint8_t* even, uint8_t* odd) {
  const int64_t k_all = a.in_features, count = smaller(CHUNK, k_all - k);
  int8_t code[CHUNK];
  unpack_integers(a.codes + n * a.row_bytes(), k_all, a.code_bits, k, code);
  if (a.block_scale) {
    int8_t scales[CHUNK];
    for (int64_t i = 0, from = 0; i < count;) {
      const int64_t block = (k + i) / a.block_in;
      if (i == 0 || block - from == CHUNK) {
        from = block / 32 * 32;
        unpack_integers(a.block_scale + n * a.scale_bytes(), a.groups(), a.scale_bits, from, scales);
      }
      const int64_t end = smaller(count, (block + 1) * a.block_in - k);
      const int scale = scales[block - from] + a.scale_offset();
      for (; i < end; i++) code[i] = (int8_t)(code[i] * scale);
    }
  }
  for (int i = 0; i < CHUNK / 2; i++) {
    even[i] = (uint8_t)(code[2 * i] + OFFSET);
    odd[i] = (uint8_t)(code[2 * i + 1] + OFFSET);
  }
}

// One chunk of `rows` output rows, any format: `words` of them from `out` on.
static void unpack_chunk(const Arguments& a, int64_t n, int64_t rows, int64_t k, int64_t words, uint32_t* out) {
  for (int64_t r = 0; r < PANEL; r++) {
    uint8_t halves[2][CHUNK / 2] = {};
    if (r < rows) unpack_row(a, n + r, k, halves[0], halves[1]);
    for (int64_t w = 0; w < words; w++) memcpy(out + r / 16 * PART + w * 16 + r % 16, halves[w % 2] + w / 2 * 4, 4);
  }
}

// Inputs [k0, k1) of the panel whose first row is n; k0 a multiple of CHUNK. `scales` is from transpose_scales.
static void unpack(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t* scales, uint32_t* out) {
  const int64_t rows = smaller(PANEL, a.out_features - n);
  for (int64_t k = unpack_chunks(a, n, k0, k1, scales, out); k < k1; k += CHUNK) {
    unpack_chunk(a, n, rows, k, smaller(CHUNK, round_up(k1 - k, 8)) / 4, out + (k - k0) / 4 * 16);
  }
}

}  // namespace KERNEL
