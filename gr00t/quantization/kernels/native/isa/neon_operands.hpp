// Both operands of the NEON kernels' products: TOGETHER words of a row lie side by side, which the including file
// says, in the panel as in what is gathered of the activations.
#pragma once
#include "neon.hpp"

#include "../weight.hpp"

namespace KERNEL {

constexpr int TILE_ROWS = 8;

// A tile's activations, (words / TOGETHER, ROWS, TOGETHER): once for all of a panel's outputs. Missing rows repeat the
// first.
template <int ROWS>
static void gather(int rows, const Tile& tile, uint32_t* out) {
  const uint32_t* row[ROWS];
  for (int m = 0; m < ROWS; m++) row[m] = tile.q[m < rows ? m : 0];
  for (int64_t w = 0; w < tile.words; w += TOGETHER, out += ROWS * TOGETHER) {
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++) {
#pragma GCC unroll 2
      for (int i = 0; i < TOGETHER; i++) out[m * TOGETHER + i] = row[m][(w + i) * LANES];
    }
  }
}

// Whether `unpack_4_rows` knows the format: nibbles, and blocks of whole 16 inputs.
static bool is_fast(const Arguments& a) { return a.code_bits() == 4 && (!a.block_scale || a.block_in % 16 == 0); }

// The scales of four rows from (n, k) on, 8 of each: those of 16 inputs each.
static inline int8x16x2_t scales_of_4_rows(const Arguments& a, int64_t n, int64_t k) {
  const int64_t groups = a.groups();
  if (a.scale_bits != 4 || a.block_in != 16) {
    int8_t scale[4][8];
    for (int r = 0; r < 4; r++) {
      for (int i = 0; i < 8; i++) scale[r][i] = (int8_t)block_scale_of(a, n + r, (k + 16 * i) / a.block_in, groups);
    }
    return {load<int8x16_t>(scale[0]), load<int8x16_t>(scale[2])};
  }
  const int64_t stride = (groups + 1) / 2;
  const uint8_t* from = a.block_scale + n * stride + k / 32;
  const auto word = [&](int r) { return load<uint32_t>(from + r * stride); };
  const int8x16_t packed = (int8x16_t)Words{word(0), word(1), word(2), word(3)};
  const int8x16_t more = vdupq_n_s8((int8_t)a.scale_offset);
  const int8x16_t even = vaddq_s8(vshrq_n_s8(vshlq_n_s8(packed, 4), 4), more);
  const int8x16_t odd = vaddq_s8(vshrq_n_s8(packed, 4), more);
  return {vzip1q_s8(even, odd), vzip2q_s8(even, odd)};
}

// One chunk of four rows, to where the first one's words begin. A vector holds eight inputs of each.
template <bool SCALED>
static inline void unpack_4_rows(const Arguments& a, int64_t n, int64_t k, uint32_t* out) {
  const int64_t stride = (a.in_features + 1) / 2;
  const uint8_t* from = a.codes + n * stride + k / 2;
  int8x16x2_t scales = {};
  if (SCALED) scales = scales_of_4_rows(a, n, k);
  uint8x16_t which = (uint8x16_t)Words{0, 0x08080808, 0x10101010, 0x18181818};  // of `scales`, for four inputs each
  for (int i = 0; i < CHUNK / 32; i++) {
    uint32x4_t words[4];
    for (int r = 0; r < 4; r++) words[r] = load<uint32x4_t>(from + r * stride + i * 16);
    transpose(words);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++, out += 2 * 16) {
      const int8x16_t both = vreinterpretq_s8_u32(words[j]);
      int8x16_t even = vshrq_n_s8(vshlq_n_s8(both, 4), 4), odd = vshrq_n_s8(both, 4);
      if (SCALED) {
        const int8x16_t scale = vqtbl2q_s8(scales, which);
        even = vmulq_s8(even, scale);
        odd = vmulq_s8(odd, scale);
        if (j % 2) which = vaddq_u8(which, vdupq_n_u8(1));
      }
      if (TOGETHER == 2) {
        vst2q_u32(out, {vreinterpretq_u32_s8(even), vreinterpretq_u32_s8(odd)});
      } else {
        vst1q_u32(out, vreinterpretq_u32_s8(even));
        vst1q_u32(out + 16, vreinterpretq_u32_s8(odd));
      }
    }
  }
}

template <bool SCALED>
static void unpack_panel(const Arguments& a, int64_t n, int64_t k0, int64_t k1, uint32_t* out) {
  for (int64_t r = 0; r < PANEL; r += 4) {
    uint32_t* to = out + r / 16 * PART + r % 16 * TOGETHER;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) unpack_4_rows<SCALED>(a, n + r, k, to);
  }
}

// Words of 16 rows each, as any format is unpacked, brought together in place.
static void bring_together(int64_t words, uint32_t* panel) {
  for (int64_t w = 0; w < words; w += 2, panel += 2 * 16) {
    uint32x4x2_t both[4];
    for (int i = 0; i < 4; i++) both[i] = {vld1q_u32(panel + 4 * i), vld1q_u32(panel + 16 + 4 * i)};
    for (int i = 0; i < 4; i++) vst2q_u32(panel + 8 * i, both[i]);
  }
}

// Whole chunks of a whole panel in the format that `unpack_4_rows` knows; where words lie together the others, too.
static inline int64_t unpack_chunks(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t*,
                                    uint32_t* out) {
  int64_t k = k0;
  if (is_fast(a) && n + PANEL <= a.out_features) {
    k += (smaller(k1, a.in_features) - k0) / CHUNK * CHUNK;
    if (a.block_scale) {
      unpack_panel<true>(a, n, k0, k, out);
    } else {
      unpack_panel<false>(a, n, k0, k, out);
    }
  }
  for (; TOGETHER == 2 && k < k1; k += CHUNK) {
    const int64_t words = smaller(CHUNK, round_up(k1 - k, 8)) / 4;
    uint32_t* to = out + (k - k0) / 4 * 16;
    unpack_chunk(a, n, smaller(PANEL, a.out_features - n), k, words, to);
    for (int part = 0; part < PANEL / 16; part++) bring_together(words, to + part * PART);
  }
  return k;
}

// Scales are read where they lie, and few rows go the way of many.
static inline int64_t scale_words(const Arguments&) { return 0; }
static inline void transpose_scales(const Arguments&, int64_t, uint32_t*) {}
static inline bool multiply_few(const Arguments&, int64_t, int64_t, const uint32_t*, const uint32_t*, const int32_t*,
                                int32_t*) {
  return false;
}

}  // namespace KERNEL
