// Any processor: what the others are tested by.
#pragma once
#include <cstdint>

namespace KERNEL {
constexpr int LANES = 4;
}

#include "plain.hpp"

namespace KERNEL {

static bool is_supported() { return true; }

static inline Floats fma(Floats a, Floats b, Floats c) {
  for (int lane = 0; lane < LANES; lane++) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
}

static inline Ints to_nearest(Floats v) {
  Ints result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = (int32_t)__builtin_rintf(v[lane]);
  return result;
}

constexpr int COLUMNS = 8;  // too few for hadamard.hpp: what others' quick way is tested by
constexpr int TILE_ROWS = 4;

static void multiply_tile(int rows, const Tile& tile, Ahead) {
  begin_sums(rows, tile);
  for (int m = 0; m < rows; m++) {
    for (int64_t w = 0; w < tile.words; w++) {
      const uint32_t x = tile.q[m][w * LANES];
      for (int n = 0; n < PANEL; n++) {
        const uint32_t y = tile.panel[n / 16 * PART + w * 16 + n % 16];
        int32_t sum = 0;
        for (int byte = 0; byte < 32; byte += 8) sum += (int8_t)(x >> byte) * (int8_t)(y >> byte);
        int32_t& out = tile.out[m * PANEL + n];
        out = (int32_t)((uint32_t)out + (uint32_t)sum);
      }
    }
  }
}

static double peak(int64_t) { return 0.0; }

}  // namespace KERNEL
