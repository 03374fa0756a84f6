// How rows of activations meet the weight in the NEON kernels: gathered for a tile, or few at once.
#pragma once
#include "weight.hpp"

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

// The sums of four outputs for row LANE of the four in x.
template <int LANE>
static inline void dot(int32x4_t& sum, int8x16_t weights, int8x16_t x) {
  sum = vdotq_laneq_s32(sum, weights, x, LANE);
}

// A single tile of few rows uses each weight once: it is multiplied where it was unpacked, in a register.
constexpr int FEW_ROWS = 4;

static inline int first_rows(const Arguments& a, int64_t n, int64_t rows) {
  const bool is_whole = n + PANEL <= a.out_features && a.in_features % CHUNK == 0;
  const bool is_usual =
      a.code_bits == 3 || a.code_bits == 4 || a.code_bits == 6;  // others' would be as much code again
  return rows <= FEW_ROWS && is_whole && is_usual && is_fast(a) ? (int)rows : 0;
}

template <bool SCALED, int BITS, int ROWS = FEW_ROWS>
static void multiply_few(int64_t rows, const Arguments& a, const Strip& strip) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return multiply_few<SCALED, BITS, ROWS - 1>(rows, a, strip);
  }
  for (int64_t r = 0; r < PANEL; r += 4) {
    int32x4_t sum[2][ROWS] = {};  // of the even and the odd inputs
    for (int m = 0; strip.k0 && m < ROWS; m++) sum[0][m] = vld1q_s32(strip.acc + m * PANEL + r);
    for (int64_t k = strip.k0; k < strip.k1; k += CHUNK) {
      const uint32_t* q = strip.q + (k - strip.k0) / 4 * LANES;
      unpack_4_rows<SCALED, BITS>(a, strip.n + r, k, [&](int i, int8x16_t even, int8x16_t odd) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
          const int8x16_t x = load<int8x16_t>(q + (2 * i + h) * LANES), weights = h ? odd : even;
          dot<0>(sum[h][0], weights, x);
          if constexpr (ROWS > 1) dot<1>(sum[h][1], weights, x);
          if constexpr (ROWS > 2) dot<2>(sum[h][2], weights, x);
          if constexpr (ROWS > 3) dot<3>(sum[h][3], weights, x);
        }
      });
    }
    for (int m = 0; m < ROWS; m++) vst1q_s32(strip.acc + m * PANEL + r, vaddq_s32(sum[0][m], sum[1][m]));
  }
}

static void multiply_first(int64_t rows, const Arguments& a, const Strip& strip) {
  if (a.code_bits == 3) return multiply_few<true, 3>(rows, a, strip);
  if (a.code_bits == 6) return multiply_few<true, 6>(rows, a, strip);
  if (is_scaled(a)) return multiply_few<true, 4>(rows, a, strip);
  multiply_few<false, 4>(rows, a, strip);
}

// Outputs are restored as everywhere.
static inline bool has_square_way(const Arguments&) { return false; }
static void finish_square(const Arguments&, int64_t, int64_t, const Square&) {}

}  // namespace KERNEL
