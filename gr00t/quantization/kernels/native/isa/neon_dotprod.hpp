// ARM with NEON's dot product: vectors of 4, and products of bytes.
#pragma once
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace KERNEL {
constexpr int LANES = 4;
}

#include "plain.hpp"

namespace KERNEL {

static bool is_supported() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & (1UL << 20)) != 0;  // HWCAP_ASIMDDP
#else
  return true;
#endif
}

static inline Floats fma(Floats a, Floats b, Floats c) {
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline Ints to_nearest(Floats v) { return (Ints)vcvtnq_s32_f32((float32x4_t)v); }

constexpr int COLUMNS = 16;
constexpr int TILE_ROWS = 4;

template <int ROWS>
static void multiply_rows(const Tile& tile) {
  for (int n = 0; n < PANEL; n += 16) {
    int32x4_t sum[ROWS][4];
    for (int m = 0; m < ROWS; m++) {
      for (int z = 0; z < 4; z++) sum[m][z] = vld1q_s32(tile.out + m * PANEL + n + 4 * z);
    }
    for (int64_t w = 0; w < tile.words; w++) {
      int8x16_t weights[4];
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) {
        weights[z] = vreinterpretq_s8_u32(vld1q_u32(tile.panel + n / 16 * PART + w * 16 + 4 * z));
      }
#pragma GCC unroll 4
      for (int m = 0; m < ROWS; m++) {
        const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(tile.q[m][w * LANES]));
#pragma GCC unroll 4
        for (int z = 0; z < 4; z++) sum[m][z] = vdotq_s32(sum[m][z], weights[z], x);
      }
    }
    for (int m = 0; m < ROWS; m++) {
      for (int z = 0; z < 4; z++) vst1q_s32(tile.out + m * PANEL + n + 4 * z, sum[m][z]);
    }
  }
}

static void multiply_tile(int rows, const Tile& tile, Ahead) {
  begin_sums(rows, tile);
  switch (rows) {
    case 1: return multiply_rows<1>(tile);
    case 2: return multiply_rows<2>(tile);
    case 3: return multiply_rows<3>(tile);
    default: return multiply_rows<4>(tile);
  }
}

static double peak(int64_t rounds) {
  int32x4_t sum[16] = {};
  int8x16_t x = vdupq_n_s8(1), w = vdupq_n_s8(1);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      __asm__ volatile("" : "+w"(x));
      sum[i] = vdotq_s32(sum[i], w, x);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) __asm__ volatile("" : : "w"(sum[i]));
  return 16.0 * 16 * 2 * (double)rounds;
}

}  // namespace KERNEL
