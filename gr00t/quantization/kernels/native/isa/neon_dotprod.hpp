// ARM with NEON's dot product: one output and one row a lane, four inputs at a time.
#pragma once

namespace KERNEL {
constexpr int TOGETHER = 1;
}

#include "neon/rows.hpp"

namespace KERNEL {

static bool is_supported() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & (1UL << 20)) != 0;  // HWCAP_ASIMDDP
#else
  return true;
#endif
}

template <int ROWS>
static void multiply_rows(const Tile& tile) {
  constexpr int VECTORS = (ROWS + 3) / 4;  // of a word of four rows each
  alignas(64) uint32_t activations[DEPTH / 4 * VECTORS * 4];
  gather<VECTORS * 4>(ROWS, tile, activations);
  for (int n = 0; n < PANEL; n += 8) {
    int32x4_t sum[VECTORS * 4][2] = {};
    for (int m = 0; m < ROWS && !tile.start; m++) {
      for (int z = 0; z < 2; z++) sum[m][z] = vld1q_s32(tile.out + m * PANEL + n + 4 * z);
    }
    const uint32_t* panel = tile.panel + n / 16 * PART + n % 16;
    const uint32_t* x = activations;
    for (int64_t w = 0; w < tile.words; w++, panel += 16, x += VECTORS * 4) {
      const int8x16_t weights[2] = {load<int8x16_t>(panel), load<int8x16_t>(panel + 4)};
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) {
        const int8x16_t rows = load<int8x16_t>(x + 4 * v);
#pragma GCC unroll 2
        for (int z = 0; z < 2; z++) {
          dot<0>(sum[4 * v][z], weights[z], rows);
          if (4 * v + 1 < ROWS) dot<1>(sum[4 * v + 1][z], weights[z], rows);
          if (4 * v + 2 < ROWS) dot<2>(sum[4 * v + 2][z], weights[z], rows);
          if (4 * v + 3 < ROWS) dot<3>(sum[4 * v + 3][z], weights[z], rows);
        }
      }
    }
    for (int m = 0; m < ROWS; m++) {
      for (int z = 0; z < 2; z++) vst1q_s32(tile.out + m * PANEL + n + 4 * z, sum[m][z]);
    }
  }
}

static void multiply_tile(int rows, const Tile& tile, Ahead) {
  switch (rows) {
    case 1: return multiply_rows<1>(tile);
    case 2: return multiply_rows<2>(tile);
    case 3: return multiply_rows<3>(tile);
    case 4: return multiply_rows<4>(tile);
    case 5: return multiply_rows<5>(tile);
    case 6: return multiply_rows<6>(tile);
    case 7: return multiply_rows<7>(tile);
    default: return multiply_rows<8>(tile);
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
