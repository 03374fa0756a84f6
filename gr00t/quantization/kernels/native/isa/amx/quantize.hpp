// Codes of 16 tokens into their tiles: by the prologue's scales, or as a matrix has them.
#pragma once
#include "../../prologue.hpp"
#include "tiling.hpp"

namespace KERNEL {

// round(h / scale) of 8 channels, in the low byte of each word; above it anything.
//
// Not by dividing, which takes 16 cycles a vector: h times the inverse of scale is off by less than 127 * 2^-23 from
// the rounded quotient, so both round alike unless it is that close to a tie; then the quotient decides.
__attribute__((always_inline)) static inline void round_quotients(const Floats* h, Floats scale, Floats inverse,
                                                                  Words* code) {
  const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, half to even
  __m512 farthest = _mm512_setzero_ps();
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    const Floats shifted = fma(h[i], inverse, magic);
    const __m512 rest = _mm512_fmsub_ps((__m512)h[i], (__m512)inverse, (__m512)(shifted - magic));
    farthest = _mm512_range_ps(farthest, rest, 0x0b);  // the larger magnitude
    code[i] = (Words)shifted;
  }
  if (__builtin_expect(_mm512_cmp_ps_mask(farthest, _mm512_set1_ps(0.5f - 0x1p-14f), _CMP_GT_OQ), 0)) {
    for (int i = 0; i < 8; i++) code[i] = (Words)to_nearest(h[i] / scale);
  }
}

// Bits of a where mask has ones, else of b.
static inline Words choose(Words mask, Words a, Words b) {
  return (Words)_mm512_ternarylogic_epi32((__m512i)mask, (__m512i)a, (__m512i)b, 0xca);
}

// Low bytes of four codes, the first lowest; zero where a row holds inf or nan.
static inline Words word_of(Words a, Words b, Words c, Words d, Ints is_finite) {
  const Words bytes = (Words)all((int32_t)0x00ff00ff), halves = (Words)all((int32_t)0xffff);
  return choose(halves, choose(bytes, a, b << 8), choose(bytes, c, d << 8) << 16) & (Words)is_finite;
}

template <bool STATIC>
static void quantize_tiles(const Arguments& a, const RowScales& rows, const Floats* h, int64_t group,
                           const Tiling& tiling, int8_t* x) {
  const Floats inverse = all(1.0f) / rows.scale;
  const int64_t end = padded(a.in_features);
  for (int64_t chunk = 0; chunk < tiling.chunks; chunk++) {
    int8_t* out = x + tiling.x_of(group, chunk);
    for (int64_t i = 0; i < SIDE; i++) {  // of eight inputs the even and the odd four
      const int64_t k = chunk * CHUNK + i * 8;
      Words even = {}, odd = {};
      if (k < end) {
        Words c[8];
        if (STATIC) {
          for (int j = 0; j < 8; j++) c[j] = (Words)code_of<true>(a, rows, h, k + j);
        } else {
          round_quotients(h + k, rows.scale, inverse, c);
        }
        even = word_of(c[0], c[2], c[4], c[6], rows.is_finite);
        odd = word_of(c[1], c[3], c[5], c[7], rows.is_finite);
      }
      store(out + i * 64, even);
      store(out + 2 * TILE + i * 64, odd);
    }
  }
}

// The prologue of rows [16 group, ...) of x: their tiles, and their scales into s.
static void prologue_to_tiles(const Arguments& a, int64_t group, const Tiling& tiling, Floats* workspace, int8_t* x,
                              float* s) {
  const int64_t first = group * SIDE, count = smaller(SIDE, a.rows - first);
  const Transformed rows(a, first, count, workspace, workspace + padded(a.in_features));
  const RowScales scales(a, rows.peak);
  if (a.act_scale) {
    quantize_tiles<true>(a, scales, rows.h, group, tiling, x);
  } else {
    quantize_tiles<false>(a, scales, rows.h, group, tiling, x);
  }
  store(s + first, scales.scale);
}

// Rows [16 group, ...) of codes q, (M, K), into their tiles.
static void codes_to_tiles(const Arguments& a, int64_t group, const Tiling& tiling, int8_t* x) {
  const int64_t first = group * SIDE, count = smaller(SIDE, a.rows - first);
  for (int64_t chunk = 0; chunk < tiling.chunks; chunk++) {
    const int64_t k = chunk * CHUNK, left = a.in_features - k;
    const auto mask = [](int64_t bytes) { return bytes >= 64 ? ~0ULL : bytes <= 0 ? 0 : ~(~0ULL << bytes); };
    __m512i words[2][SIDE];
    for (int64_t m = 0; m < SIDE; m++) {
      const int8_t* row = a.q + (first + (m < count ? m : 0)) * a.in_features + k;
      const __m512i low = _mm512_maskz_loadu_epi8(m < count ? mask(left) : 0, row);
      const __m512i high = _mm512_maskz_loadu_epi8(m < count ? mask(left - 64) : 0, row + 64);
      for (int odd = 0; odd < 2; odd++) words[odd][m] = every_second(low, high, odd);
    }
    for (int odd = 0; odd < 2; odd++) {
      int8_t* out = x + tiling.x_of(group, chunk) + 2 * odd * TILE;
      transpose(words[odd]);
      for (int64_t i = 0; i < SIDE; i++) _mm512_store_si512(out + i * 64, words[odd][i]);
    }
  }
}

}  // namespace KERNEL
