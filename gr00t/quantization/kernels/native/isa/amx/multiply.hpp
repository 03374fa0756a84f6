// acc^T (N, M) = (g c) (N, K) q^T (K, M): blocks of 2 x 2 tiles, strip by strip.
//
// While a strip is multiplied the memory is asked for the codes of the next.
#pragma once
#include "quantize.hpp"
#include "unpack.hpp"

namespace KERNEL {

// The codes of a strip, line by line, a few at each step of the multiplication before it.
class Asking {
 public:
  Asking(const Arguments& a, int64_t n, int64_t k, int64_t chunks, int64_t steps)
      : row_((const char*)a.codes.data + n * a.row_bytes() + k * a.code_bits / 8),
        stride_(a.row_bytes()),
        line_(0),
        lines_((chunks * CHUNK * a.code_bits / 8 + 63) / 64),
        each_((OUTPUTS * lines_ + steps - 1) / steps),
        left_(OUTPUTS * lines_) {}

  void step() {
    for (int64_t i = smaller(each_, left_); i > 0; i--) {
      _mm_prefetch(row_ + line_ * 64, _MM_HINT_T0);
      if (++line_ == lines_) line_ = 0, row_ += stride_;
    }
    left_ -= each_;
  }

 private:
  const char* row_;
  int64_t stride_, line_, lines_, each_, left_;
};

// A block over `steps` steps, for one group of tokens or two.
template <bool TWO>
static inline void multiply_block(const int8_t* w, const int8_t* x, int64_t steps, int32_t* c, bool is_first,
                                  Asking& next) {
  constexpr int64_t NUMBERS = TILE / 4;
  if (is_first) {
    tile_zero<0>(), tile_zero<2>();
    if (TWO) tile_zero<1>(), tile_zero<3>();
  } else {
    tile_load<0>(c), tile_load<2>(c + 2 * NUMBERS);
    if (TWO) tile_load<1>(c + NUMBERS), tile_load<3>(c + 3 * NUMBERS);
  }
  for (int64_t i = 0; i < steps; i++, w += 2 * TILE, x += 2 * TILE) {
    tile_load<4>(w), tile_load<6>(x), tile_dot<0, 4, 6>();
    if (TWO) tile_load<7>(x + TILE), tile_dot<1, 4, 7>();
    tile_load<5>(w + TILE), tile_dot<2, 5, 6>();
    if (TWO) tile_dot<3, 5, 7>();
    next.step();
  }
  tile_store<0>(c), tile_store<2>(c + 2 * NUMBERS);
  if (TWO) tile_store<1>(c + NUMBERS), tile_store<3>(c + 3 * NUMBERS);
}

// Workspace of `multiply_outputs`: a strip of the weight, sums.
static int64_t multiply_outputs_bytes(const Tiling& tiling) { return W_BYTES + tiling.c_bytes(); }

// Outputs [first, end), first a multiple of OUTPUTS, for all tokens: `sink.take(n, pair, c)` for each block of sums.
template <class Sink>
static void multiply_outputs(const Arguments& a, const Tiling& tiling, const int8_t* x, int64_t first, int64_t end,
                             char* workspace, const Sink& sink) {
  int8_t* w = (int8_t*)workspace;
  int32_t* sums = (int32_t*)(workspace + W_BYTES);
  int64_t strip = 0;
  for (int64_t n = first; n < end;) {
    const int64_t chunks = tiling.chunks_of(strip), steps = 2 * chunks;
    unpack_strip(a, n, strip * STRIP, chunks, w);
    const bool is_last = strip == tiling.strips - 1;
    const int64_t next_strip = is_last ? 0 : strip + 1, next_n = is_last ? n + OUTPUTS : n;
    Asking next(a, next_n, next_strip * STRIP, tiling.chunks_of(next_strip), steps * tiling.pairs);
    for (int64_t p = 0; p < tiling.pairs; p++) {
      int32_t* c = sums + p * SUMS;
      const int8_t* pair = x + tiling.x_at(strip, p);
      if (tiling.groups_of(p) == 2) {
        multiply_block<true>(w, pair, steps, c, strip == 0, next);
      } else {
        multiply_block<false>(w, pair, steps, c, strip == 0, next);
      }
      if (is_last) sink.take(n, p, c);
    }
    strip = next_strip;
    n = next_n;
  }
}

}  // namespace KERNEL
