// ARM with NEON's matrix product: two outputs and two rows a vector, eight inputs at a time.
#pragma once

namespace KERNEL {
constexpr int TOGETHER = 2;
}

#include "neon/rows.hpp"

namespace KERNEL {

static bool is_supported() {
#if defined(__linux__)
  const bool has_dotprod = getauxval(AT_HWCAP) & (1UL << 20), has_i8mm = getauxval(AT_HWCAP2) & (1UL << 13);
  return has_dotprod && has_i8mm;
#else
  return false;  // not all of Apple's have it
#endif
}

// Two numbers of the first and two of the second row: as they are summed, and back.
static inline int32x4_t first_of(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
static inline int32x4_t last_of(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

template <int PAIRS>
static void multiply_pairs(int rows, const Tile& tile) {
  alignas(64) uint32_t activations[DEPTH / 4 * PAIRS * 2];
  gather<PAIRS * 2>(rows, tile, activations);
  for (int n = 0; n < PANEL; n += 8) {
    int32x4_t sum[PAIRS][4] = {};  // of a pair of rows and a pair of outputs each
    for (int m = 0; m < PAIRS && !tile.start; m++) {
      const int32_t* first = tile.out + 2 * m * PANEL + n;
      const int32_t* second = 2 * m + 1 < rows ? first + PANEL : first;
      for (int z = 0; z < 4; z += 2) {
        const int32x4_t a = vld1q_s32(first + 2 * z), b = vld1q_s32(second + 2 * z);
        sum[m][z] = first_of(a, b);
        sum[m][z + 1] = last_of(a, b);
      }
    }
    const uint32_t* panel = tile.panel + n / 16 * PART + n % 16 * 2;
    const uint32_t* x = activations;
    for (int64_t w = 0; w < tile.words; w += 2, panel += 2 * 16, x += PAIRS * 4) {
      int8x16_t weights[4];
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) weights[z] = load<int8x16_t>(panel + 4 * z);
#pragma GCC unroll 4
      for (int m = 0; m < PAIRS; m++) {
        const int8x16_t pair = load<int8x16_t>(x + 4 * m);
#pragma GCC unroll 4
        for (int z = 0; z < 4; z++) sum[m][z] = vmmlaq_s32(sum[m][z], pair, weights[z]);
      }
    }
    for (int m = 0; m < PAIRS; m++) {
      int32_t* first = tile.out + 2 * m * PANEL + n;
      for (int z = 0; z < 4; z += 2) {
        vst1q_s32(first + 2 * z, first_of(sum[m][z], sum[m][z + 1]));
        if (2 * m + 1 < rows) vst1q_s32(first + PANEL + 2 * z, last_of(sum[m][z], sum[m][z + 1]));
      }
    }
  }
}

static void multiply_tile(int rows, const Tile& tile, Ahead) {
  switch ((rows + 1) / 2) {
    case 1: return multiply_pairs<1>(rows, tile);
    case 2: return multiply_pairs<2>(rows, tile);
    case 3: return multiply_pairs<3>(rows, tile);
    default: return multiply_pairs<4>(rows, tile);
  }
}

static double peak(int64_t rounds) {
  int32x4_t sum[16] = {};
  int8x16_t x = vdupq_n_s8(1), w = vdupq_n_s8(1);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      __asm__ volatile("" : "+w"(x));
      sum[i] = vmmlaq_s32(sum[i], w, x);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) __asm__ volatile("" : : "w"(sum[i]));
  return 16.0 * 32 * 2 * (double)rounds;
}

}  // namespace KERNEL
