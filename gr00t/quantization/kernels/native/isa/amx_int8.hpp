// AMX with int8: sums of 16 x 16 by one instruction; the rest of a layer by AVX-512 with VBMI and GFNI.
//
// Any layer goes by tiles, padded with zeros to whole ones; few rows, which would fill a third of a tile or less, go
// by AVX-512 VNNI, whose bits are the same. What a process has to ask for first is said in amx/permission.hpp.
#pragma once
#include "avx512_vnni.hpp"
#include "amx/linear.hpp"
#include "amx/permission.hpp"

namespace KERNEL {

static const TileFacts& tile_facts() {
  static const TileFacts facts = find_tile_facts(vnni::is_supported());  // asked once
  return facts;
}

static const char* refusal() { return tile_refusal(tile_facts()); }

static bool is_supported() { return tile_facts().has_tiles && !tile_refusal(tile_facts()); }

namespace by_panels {
static int linear(const Arguments& a);
static int accumulate(const Arguments& a);
}  // namespace by_panels

constexpr int64_t FEWEST_ROWS = 5;

static int linear(const Arguments& a) { return a.rows < FEWEST_ROWS ? by_panels::linear(a) : linear_by_tiles(a); }

static int accumulate(const Arguments& a) {
  return a.rows < FEWEST_ROWS ? by_panels::accumulate(a) : accumulate_by_tiles(a);
}

static double peak(int64_t rounds) {
  const Configured tiles;
  tile_zero<4>(), tile_zero<5>(), tile_zero<6>(), tile_zero<7>();
  tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
  for (int64_t r = 0; r < rounds; r++) {
    tile_dot<0, 4, 6>(), tile_dot<1, 4, 7>();
    tile_dot<2, 5, 6>(), tile_dot<3, 5, 7>();
  }
  return 4.0 * SIDE * SIDE * 64 * 2 * (double)rounds;
}

}  // namespace KERNEL
