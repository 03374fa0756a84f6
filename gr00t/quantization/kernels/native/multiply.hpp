// A panel of the weight against a run of rows, tile by tile.
#pragma once
#include "quantize.hpp"
#include "weight.hpp"

namespace KERNEL {

// Rows that go through all stages before the next: their codes should stay in the cache.
constexpr int64_t RUN = 768;

// Bytes that `multiply` needs for `rows` rows.
static int64_t multiply_bytes(const Arguments& a, int64_t rows) {
  return (DEPTH + (scale_words(a) + rows) * 4) * PANEL;
}

// One panel against `rows` rows of codes, whose sums begin at `start`: `sink.finish(m, count, sums)` for all of
// them, LANES or a multiple at a time but for the last.
template <class Sink>
static void multiply(const Arguments& a, int64_t n, int64_t rows, const uint32_t* codes, const int32_t* start,
                     char* workspace, const Sink& sink) {
  static_assert(TILE_ROWS % 2 == 0);  // tiles hold pairs of rows, since some instructions take two
  const int64_t k_all = padded(a.in_features);
  uint32_t* unpacked = (uint32_t*)workspace;
  uint32_t* scales = unpacked + 4 * PART;                      // (scale_words, PANEL)
  int32_t* acc = (int32_t*)(scales + scale_words(a) * PANEL);  // (rows, PANEL)
  if (scale_words(a)) {
    transpose_scales(a, n, scales);
    // Nobody else asks the memory for the next panel's in time.
    const int64_t bytes = PANEL * a.scale_bytes();
    const char* next = (const char*)a.block_scale + (n / PANEL + 1) * bytes;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i);
  }
  const int64_t together = first_rows(a, n, rows);
  const int64_t tiles = (rows - together + TILE_ROWS - 1) / TILE_ROWS, pairs = (rows - together + 1) / 2;
  const int64_t panel_bytes = PANEL * a.row_bytes();
  Ahead ahead = {(const char*)a.codes.data + (n / PANEL + 1) * panel_bytes,
                 panel_bytes / (larger(tiles, 1) * (k_all / 4)) + 1};
  int64_t done = 0;  // rows that are finished, while their sums are near
  for (int64_t k = 0; k < k_all; k += DEPTH) {
    const int64_t end = smaller(k + DEPTH, k_all);
    if (together) {
      multiply_first(together, a, {n, k, end, scales, codes + k / 4 * LANES, start, unpacked, acc});
    } else {
      unpack(a, n, k, end, scales, unpacked);
    }
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t first = together + t * pairs / tiles * 2;
      const int count = (int)(smaller(together + (t + 1) * pairs / tiles * 2, rows) - first);
      const uint32_t* row[TILE_ROWS];
      for (int r = 0; r < count; r++) {
        const int64_t m = first + r;
        row[r] = codes + m / LANES * LANES * (k_all / 4) + k / 4 * LANES + m % LANES;
      }
      const Tile tile = {row, (end - k) / 4, unpacked, acc + first * PANEL, k ? nullptr : start + first};
      multiply_tile(count, tile, ahead);
      ahead.from += ahead.step * ((end - k) / 4);
      const int64_t ready = (first + count) / LANES * LANES;
      if (end == k_all && ready > done) {
        sink.finish(done, ready - done, acc + done * PANEL);
        done = ready;
      }
    }
  }
  if (rows > done) sink.finish(done, rows - done, acc + done * PANEL);
}

}  // namespace KERNEL
