// What an instruction set takes that has no way of its own: one number after the other, to the same bits.
#pragma once
#include "../panel.hpp"

namespace KERNEL {

static inline Floats load_halves(const uint16_t* from) {
  Floats result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = half_to_float(from[lane]);
  return result;
}

static inline void store_halves(uint16_t* to, Floats v) {
  for (int lane = 0; lane < LANES; lane++) to[lane] = float_to_half(v[lane]);
}

static inline Words where_nan(Floats v, Words yes, Words no) {
  const Words is_nan = (Words)((Ints)((Words)v & 0x7fffffff) > all(0x7f800000));
  return (no & ~is_nan) | (is_nan & yes);
}

static inline bool is_any(Ints condition) {
  int64_t pairs[LANES / 2], any = 0;
  store(pairs, condition);
  for (int i = 0; i < LANES / 2; i++) any |= pairs[i];
  return any != 0;
}

// Sums begin at zero where no offset is taken back.
constexpr int OFFSET = 0;

static inline void begin_sums(int rows, const Tile& tile) {
  if (tile.start) memset(tile.out, 0, (size_t)(rows * PANEL) * 4);
}

// Nothing is transposed by instructions, unpacked in vectors, or multiplied where it was unpacked.
static inline int64_t transpose_vectors(const char*, int64_t, int64_t, int64_t, Floats*) { return 0; }
static inline int64_t scale_words(const Arguments&) { return 0; }
static inline void transpose_scales(const Arguments&, int64_t, uint32_t*) {}
static inline int64_t unpack_chunks(const Arguments&, int64_t, int64_t k0, int64_t, const uint32_t*, uint32_t*) {
  return k0;
}
static inline int first_rows(const Arguments&, int64_t, int64_t) { return 0; }
static void multiply_first(int64_t, const Arguments&, const Strip&) {}

// Nor are outputs restored by a way of their own.
static inline bool has_square_way(const Arguments&) { return false; }
static void finish_square(const Arguments&, int64_t, int64_t, const Square&) {}

}  // namespace KERNEL
