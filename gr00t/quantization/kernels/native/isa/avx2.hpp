// AVX2 and FMA: vectors of 8, and products of 16 bits.
#pragma once
#include <immintrin.h>

namespace KERNEL {
constexpr int LANES = 8;
}

#include "plain.hpp"

namespace KERNEL {

static bool is_supported() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static inline Floats fma(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

static inline Ints to_nearest(Floats v) { return (Ints)_mm256_cvtps_epi32((__m256)v); }

constexpr int COLUMNS = 8;
constexpr int TILE_ROWS = 2;

// Bytes widened to 16 bits before they are multiplied: pairs of products fit 32 bits, where vpmaddubsw, which
// takes bytes, would saturate at 16.
template <int ROWS>
static void multiply_rows(const Tile& tile) {
  for (int n = 0; n < PANEL; n += 16) {
    __m256i sum[ROWS][4] = {};
    for (int64_t w = 0; w < tile.words; w++) {
      __m256i x[ROWS];
#pragma GCC unroll 2
      for (int m = 0; m < ROWS; m++) x[m] = _mm256_cvtepi8_epi16(_mm_set1_epi32((int)tile.q[m][w * LANES]));
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) {
        const __m128i* four_rows = (const __m128i*)(tile.panel + n / 16 * PART + w * 16 + 4 * z);
        const __m256i weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(four_rows));
#pragma GCC unroll 2
        for (int m = 0; m < ROWS; m++) {
          sum[m][z] = _mm256_add_epi32(sum[m][z], _mm256_madd_epi16(x[m], weights));
        }
      }
    }
    for (int m = 0; m < ROWS; m++) {  // two sums for each row of the weight
      for (int z = 0; z < 4; z += 2) {
        __m256i pairs = _mm256_hadd_epi32(sum[m][z], sum[m][z + 1]);
        __m256i* to = (__m256i*)(tile.out + m * PANEL + n + 4 * z);
        pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
        _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), pairs));
      }
    }
  }
}

static void multiply_tile(int rows, const Tile& tile, Ahead) {
  begin_sums(rows, tile);
  return rows == 1 ? multiply_rows<1>(tile) : multiply_rows<2>(tile);
}

static double peak(int64_t rounds) {
  __m256i sum[8] = {}, x = _mm256_set1_epi16(1), w = _mm256_set1_epi16(1);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      __asm__ volatile("" : "+x"(x));
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(x, w));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) __asm__ volatile("" : : "x"(sum[i]));
  return 8.0 * 16 * 2 * (double)rounds;
}

}  // namespace KERNEL
