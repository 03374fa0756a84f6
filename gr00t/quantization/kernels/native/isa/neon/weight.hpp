// From packed codes to a panel by NEON, four rows at a time. TOGETHER words of a row lie side by side in it, which the
// kernel's own file says before all others.
#pragma once
#include "planes.hpp"

namespace KERNEL {

// Whether `unpack_4_rows` knows the format: codes that are no bytes, and blocks of 16 inputs or of whole 32.
static bool is_fast(const Arguments& a) {
  return a.code_bits != 8 && (!a.block_scale || a.block_in == 16 || a.block_in % 32 == 0);
}

// Whether weights are multiplied by block scales as they are unpacked: all but those of int4 that have none.
static inline bool is_scaled(const Arguments& a) { return a.block_scale || a.code_bits != 4; }

// Block scales of 16 inputs each, eight for a chunk: of four rows' first, third, fifth and seventh 16, and the others.
struct Scales {
  int8x16_t even, odd;
};

static inline int block_scale_of(const Arguments& a, int64_t n, int64_t block) {
  const uint8_t* plane = a.block_scale + n * a.scale_bytes();
  int value = 0, shift = 0;
  for (int width = 4; width; width /= 2) {
    if (!(a.scale_bits & width)) continue;
    const int64_t unit = 32 / width, byte = block / unit * 4 + block % 8 / 2;
    value |= (plane[byte] >> (block % 2 * 4 + block % unit / 8 * width) & ((1 << width) - 1)) << shift;
    plane += packed_bytes(a.groups(), width);
    shift += width;
  }
  const int sign = 1 << (a.scale_bits - 1);
  return (value ^ sign) - sign + a.scale_offset();
}

// Those of four rows from (n, k) on, of BITS bits.
template <int BITS>
static inline Scales scales_of_4_rows(const Arguments& a, int64_t n, int64_t k) {
  if (!a.block_scale) return {vdupq_n_s8(1), vdupq_n_s8(1)};
  if (a.block_in != 16) {
    int8_t scale[4][4];
    for (int r = 0; r < 4; r++) {
      for (int i = 0; i < 4; i++) scale[r][i] = (int8_t)block_scale_of(a, n + r, (k + 32 * i) / a.block_in);
    }
    return {load<int8x16_t>(scale), load<int8x16_t>(scale)};
  }
  const int64_t groups = a.groups(), first = k / 16;
  const PlaneRows<BITS> rows(a.block_scale + n * packed_bytes(groups, BITS), groups, first / 128 * 128);
  const int64_t p = first % 128 / 8;
  Words lower = {};
  if constexpr (BITS & 4) lower = rows.words(rows.four + 4 * p);
  Scales scales;
  unpack_halves<BITS>(lower, rows.narrow(p), scales.even, scales.odd);
  const int8x16_t more = vdupq_n_s8((int8_t)a.scale_offset());
  return {vaddq_s8(scales.even, more), vaddq_s8(scales.odd, more)};
}

// One chunk of four rows: `sink(i, even, odd)` for the i-th eight inputs of each, 0 to 15.
template <bool SCALED, int BITS, class Sink>
__attribute__((always_inline)) static inline void unpack_4_rows(const Arguments& a, int64_t n, int64_t k,
                                                                const Sink& sink) {
  const PlaneRows<BITS> rows(a.codes + n * packed_bytes(a.in_features, BITS), a.in_features, k);
  Scales scales = {};
  if (SCALED) scales = scales_of_4_rows<8 - BITS>(a, n, k);
  uint8x16_t which = (uint8x16_t)Words{0, 0x04040404, 0x08080808, 0x0c0c0c0c};  // of them, in four bytes for each row
  for (int i = 0; i < CHUNK / 8; i += 4, which = vaddq_u8(which, vdupq_n_u8(1))) {
    uint32x4_t words[4] = {};
    if constexpr (BITS & 4) {
      for (int r = 0; r < 4; r++) words[r] = load<uint32x4_t>(rows.four + r * rows.stride + i * 4);
      transpose(words);
    }
    const int8x16_t scale[2] = {vqtbl1q_s8(scales.even, which), vqtbl1q_s8(scales.odd, which)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      int8x16_t even, odd;
      unpack_halves<BITS>((Words)words[j], rows.narrow(i + j), even, odd);
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

template <bool SCALED, int BITS>
static void unpack_panel(const Arguments& a, int64_t n, int64_t k0, int64_t k1, uint32_t* out) {
  for (int64_t r = 0; r < PANEL; r += 4) {
    uint32_t* to = out + r / 16 * PART + r % 16 * TOGETHER;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) {
      unpack_4_rows<SCALED, BITS>(a, n + r, k, [&](int i, int8x16_t even, int8x16_t odd) {
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
    switch (a.code_bits) {
      case 2: unpack_panel<true, 2>(a, n, k0, k, out); break;
      case 3: unpack_panel<true, 3>(a, n, k0, k, out); break;
      case 5: unpack_panel<true, 5>(a, n, k0, k, out); break;
      case 6: unpack_panel<true, 6>(a, n, k0, k, out); break;
      case 7: unpack_panel<true, 7>(a, n, k0, k, out); break;
      default:
        if (is_scaled(a)) {
          unpack_panel<true, 4>(a, n, k0, k, out);
        } else {
          unpack_panel<false, 4>(a, n, k0, k, out);
        }
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
