// Codes of 16 tokens into their tiles: by the prologue's scales, or as a matrix has them.
#pragma once
#include "../../quantize.hpp"
#include "tiling.hpp"

namespace KERNEL {

// Of eight inputs the even and the odd four are words of two steps. Behind the last input stands whatever was there:
// the weight is zero there.
static void quantize_tiles(const Arguments& a, const RowScales& rows, const Floats* h, int64_t group,
                           const Tiling& tiling, int8_t* x) {
  const auto at = [&](int64_t k) { return x + tiling.x_of(group, k / CHUNK) + k % CHUNK / 8 * 64; };
  quantize(a, rows, h, [&](int64_t k, const Words(&code)[8]) {
    store(at(k), word_of(code[0], code[2], code[4], code[6]));
    store(at(k) + 2 * TILE, word_of(code[1], code[3], code[5], code[7]));
  });
}

// The prologue of rows [16 group, ...) of x: their tiles, and their scales into s.
static void prologue_to_tiles(const Arguments& a, int64_t group, const Tiling& tiling, Floats* workspace, int8_t* x,
                              float* s) {
  const int64_t first = group * SIDE, count = smaller(SIDE, a.rows - first);
  const Transformed rows(a, first, count, workspace, workspace + padded(a.in_features));
  const RowScales scales(a, rows.peak);
  quantize_tiles(a, scales, rows.h, group, tiling, x);
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
