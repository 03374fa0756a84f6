// From packed codes to a panel by NEON, four rows at a time. TOGETHER words of a row lie side by side in it, which the
// kernel's own file says before all others.
#pragma once
#include "vectors.hpp"

#include "../../weight.hpp"

namespace KERNEL {

// Whether `unpack_4_rows` knows the format: nibbles, and blocks of 16 inputs or of whole 32.
static bool is_fast(const Arguments& a) {
  return a.code_bits == 4 && (!a.block_scale || a.block_in == 16 || a.block_in % 32 == 0);
}

// Of two's complement.
static inline int8x16_t low_nibbles(int8x16_t x) { return vshrq_n_s8(vshlq_n_s8(x, 4), 4); }
static inline int8x16_t high_nibbles(int8x16_t x) { return vshrq_n_s8(x, 4); }

// Block scales of 16 inputs each, eight for a chunk: of four rows' first, third, fifth and seventh 16, and the others.
struct Scales {
  int8x16_t even, odd;
};

static inline int block_scale_of(const Arguments& a, int64_t n, int64_t block) {
  const int byte = a.block_scale[n * a.scale_bytes() + block / 2], nibble = block % 2 ? byte >> 4 : byte & 15;
  return (nibble ^ 8) - 8 + a.scale_offset();
}

// Those of four rows from (n, k) on.
static inline Scales scales_of_4_rows(const Arguments& a, int64_t n, int64_t k) {
  if (a.block_in != 16) {
    int8_t scale[4][4];
    for (int r = 0; r < 4; r++) {
      for (int i = 0; i < 4; i++) scale[r][i] = (int8_t)block_scale_of(a, n + r, (k + 32 * i) / a.block_in);
    }
    return {load<int8x16_t>(scale), load<int8x16_t>(scale)};
  }
  const int64_t stride = a.scale_bytes();
  const uint8_t* from = a.block_scale + n * stride + k / 32;
  const auto word = [&](int r) { return load<uint32_t>(from + r * stride); };
  const int8x16_t packed = (int8x16_t)Words{word(0), word(1), word(2), word(3)};
  const int8x16_t more = vdupq_n_s8((int8_t)a.scale_offset());
  return {vaddq_s8(low_nibbles(packed), more), vaddq_s8(high_nibbles(packed), more)};
}

// One chunk of four rows: `sink(i, even, odd)` for the i-th eight inputs of each, 0 to 15.
template <bool SCALED, class Sink>
__attribute__((always_inline)) static inline void unpack_4_rows(const Arguments& a, int64_t n, int64_t k,
                                                                const Sink& sink) {
  const int64_t stride = (a.in_features + 1) / 2;
  const uint8_t* from = a.codes + n * stride + k / 2;
  Scales scales = {};
  if (SCALED) scales = scales_of_4_rows(a, n, k);
  uint8x16_t which = (uint8x16_t)Words{0, 0x04040404, 0x08080808, 0x0c0c0c0c};  // of them, in four bytes for each row
  for (int i = 0; i < CHUNK / 8; i += 4, which = vaddq_u8(which, vdupq_n_u8(1))) {
    uint32x4_t words[4];
    for (int r = 0; r < 4; r++) words[r] = load<uint32x4_t>(from + r * stride + i * 4);
    transpose(words);
    const int8x16_t scale[2] = {vqtbl1q_s8(scales.even, which), vqtbl1q_s8(scales.odd, which)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      const int8x16_t both = vreinterpretq_s8_u32(words[j]);
      int8x16_t even = low_nibbles(both), odd = high_nibbles(both);
      if (SCALED) {
        even = vmulq_s8(even, scale[j / 2]);
        odd = vmulq_s8(odd, scale[j / 2]);
      }
      sink(i + j, even, odd);
    }
  }
}

// Two words of four rows each, where the first one's lie in a panel.
static inline void store_words(uint32_t* to, uint32x4_t even, uint32x4_t odd) {
  if (TOGETHER == 2) {
    vst1q_u32(to, vzip1q_u32(even, odd));
    vst1q_u32(to + 4, vzip2q_u32(even, odd));
  } else {
    vst1q_u32(to, even);
    vst1q_u32(to + 16, odd);
  }
}

template <bool SCALED>
static void unpack_panel(const Arguments& a, int64_t n, int64_t k0, int64_t k1, uint32_t* out) {
  for (int64_t r = 0; r < PANEL; r += 4) {
    uint32_t* to = out + r / 16 * PART + r % 16 * TOGETHER;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) {
      unpack_4_rows<SCALED>(a, n + r, k, [&](int i, int8x16_t even, int8x16_t odd) {
        store_words(to + i * 32, vreinterpretq_u32_s8(even), vreinterpretq_u32_s8(odd));
      });
    }
  }
}

// Words of 16 rows each, as any format is unpacked, brought together in place.
static void bring_together(int64_t words, uint32_t* panel) {
  for (int64_t w = 0; w < words; w += 2, panel += 2 * 16) {
    uint32_t apart[2 * 16];
    memcpy(apart, panel, sizeof apart);
    for (int r = 0; r < 16; r += 4) store_words(panel + 2 * r, vld1q_u32(apart + r), vld1q_u32(apart + 16 + r));
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

// Scales are read where they lie.
static inline int64_t scale_words(const Arguments&) { return 0; }
static inline void transpose_scales(const Arguments&, int64_t, uint32_t*) {}

}  // namespace KERNEL
