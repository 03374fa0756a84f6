// From packed codes to `g * c + OFFSET` in bytes, in any format: what isa/ has no way of its own for.
#pragma once
#include "panel.hpp"

namespace KERNEL {

static inline int block_scale_of(const Arguments& a, int64_t n, int64_t block, int64_t groups) {
  if (!a.block_scale) return 1;
  if (a.scale_bits == 8) return a.block_scale[n * groups + block];
  int byte = a.block_scale[n * ((groups + 1) / 2) + block / 2];
  int nibble = block % 2 ? byte >> 4 : byte & 15;
  return (nibble ^ 8) - 8 + (int)a.scale_offset;
}

// Inputs [k, k + CHUNK) of row n, the even and the odd ones apart; zeros and their offset after K.
static void unpack_row(const Arguments& a, int64_t n, int64_t k, uint8_t* even, uint8_t* odd) {
  const int64_t k_all = a.in_features, count = smaller(CHUNK, k_all - k);
  int8_t code[CHUNK] = {};
  if (a.code_bits() == 4) {
    const uint8_t* packed = a.codes + n * ((k_all + 1) / 2) + k / 2;
    for (int64_t i = 0; i < (count + 1) / 2; i++) {
      code[2 * i] = (int8_t)((packed[i] & 15) ^ 8) - 8;
      code[2 * i + 1] = (int8_t)((packed[i] >> 4) ^ 8) - 8;
    }
    if (count % 2) code[count] = 0;
  } else {
    memcpy(code, a.codes + n * k_all + k, count);
  }
  if (a.block_scale) {
    const int64_t groups = a.groups();
    for (int64_t i = 0; i < count;) {
      const int64_t block = (k + i) / a.block_in;
      const int64_t end = smaller(count, (block + 1) * a.block_in - k);
      const int scale = block_scale_of(a, n, block, groups);
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
