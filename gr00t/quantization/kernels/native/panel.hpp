// How a weight lies while it is multiplied: a panel of 64 output rows at a time, unpacked, for all input rows.
//
// A panel is what the dot-product instructions want: (4, DEPTH / 4, 16 rows) words of four inputs, in the order of
// quantize.hpp's `quantize_words`.
#pragma once
#include "vectors.hpp"

namespace KERNEL {

constexpr int PANEL = 64;
constexpr int CHUNK = 128;                // inputs that are unpacked at a time: 64 bytes of nibbles
constexpr int64_t DEPTH = 16 * CHUNK;     // inputs of a panel at a time: it should stay in the second cache
constexpr int64_t PART = DEPTH / 4 * 16;  // words of 16 rows of a panel

// One tile: `out[m, n] = start[m] + sum_k q[m, k] w[n, k]` for a few rows m and a panel of rows n, exact int32
// throughout; without a start, on top of what is there. Sums may wrap on the way: what counts is the result modulo
// 2^32, which the caller's bound on K makes the result.
struct Tile {
  const uint32_t* const* q;  // of each row, a word every LANES
  int64_t words;
  const uint32_t* panel;
  int32_t* out;  // (rows, PANEL)
  const int32_t* start;
};

// What a tile asks the memory for while it computes: the codes of the next panel, `step` bytes at each word.
struct Ahead {
  const char* from;
  int64_t step;
};

// Inputs [k0, k1) of the panel whose first row is n, before it is unpacked.
struct Strip {
  int64_t n, k0, k1;
  const uint32_t* scales;  // from transpose_scales
  const uint32_t* q;       // the first LANES rows
  const int32_t* start;
  uint32_t* panel;
  int32_t* acc;  // (rows, PANEL)
};

// Each file of isa/ says how many rows a tile may have, TILE_ROWS; what is added to every weight, OFFSET, which the
// sums' start takes back; and defines what follows.

static void multiply_tile(int rows, const Tile& tile, Ahead ahead);

// A panel's block scales as a vector wants them: how many words of each row, and from row n on. None: it wants none.
static inline int64_t scale_words(const Arguments& a);
static inline void transpose_scales(const Arguments& a, int64_t n, uint32_t* out);

// Inputs [k0, k1) of the panel whose first row is n, as far as they have a way of their own. Returns where it ends.
static inline int64_t unpack_chunks(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t* scales,
                                    uint32_t* out);

// How many rows are multiplied while the panel is unpacked; 0: it has no way for that.
static inline int first_rows(const Arguments& a, int64_t n, int64_t rows);

// Those rows with a strip of the panel, which is left unpacked in `panel` for the others, if there are any.
static void multiply_first(int64_t rows, const Arguments& a, const Strip& strip);

// Sums of LANES rows of a panel, and how they end.
struct Square {
  const int32_t* acc;  // (LANES, PANEL)
  const float* s;      // of each row
  const float* scale;  // (PANEL,)
  const float* bias;   // (PANEL,), null: none
};

// Whether y has a faster way than epilogue.hpp's, and that way: y[m : m + LANES, n : n + PANEL] of `square`.
static inline bool has_square_way(const Arguments& a);
static void finish_square(const Arguments& a, int64_t m, int64_t n, const Square& square);

// And what the table of a kernel takes (operands.hpp, layer.cpp), that of layer.cpp's own where it has no better:
// `is_supported`, `refusal`, `peak`, `accumulate`, `linear`. What stands in KERNEL itself goes before what a namespace
// that KERNEL uses has: so one instruction set builds on another.
namespace without_refusal {
static inline const char* refusal() { return nullptr; }
}  // namespace without_refusal
using namespace without_refusal;

}  // namespace KERNEL
