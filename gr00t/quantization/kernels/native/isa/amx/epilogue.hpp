// Where blocks of sums go: y = (acc * s_x * s_w) U^T + bias where U is the Hadamard matrix of 16 and y bfloat16,
// straight from the tiles; and for everything else a panel of sums in the order that the other instruction sets have.
#pragma once
#include "../../epilogue.hpp"
#include "multiply.hpp"

namespace KERNEL {

// Outputs of a thread's job, at most: a row of y is another page each, too many for 64 bytes at a time.
constexpr int64_t STAGED = 256;

// Tokens are lanes. The order of every sum is epilogue.hpp's.
class TileEpilogue {
 public:
  static bool is_for(const Arguments& a) { return a.out_features % OUTPUTS == 0 && has_square_way(a); }
  static int64_t bytes(const Tiling& tiling) { return tiling.groups * SIDE * STAGED * 2; }

  // Outputs [first, end); token scales s, (rows,); `staged`: workspace.
  TileEpilogue(const Arguments& a, int64_t first, int64_t end, const float* s, char* staged)
      : a_(a), first_(first), end_(end), s_(s), staged_((uint16_t*)staged) {
    for (int64_t n = first; a.bias && n < end; n += LANES)
      store(bias_ + n - first, load_floats(a.bias, n, a.bias.dtype));
  }

  void take(int64_t n, int64_t pair, const int32_t* c) const {
    for (int64_t m = pair * TOKENS; m < smaller(a_.rows, (pair + 1) * TOKENS); m += SIDE) {
      finish(n, m, c + m % TOKENS * SIDE);
    }
  }

  void write() const {
    for (int64_t m = 0; m < a_.rows; m++) {
      memcpy((uint16_t*)a_.y + m * a_.out_features + first_, staged_ + m * STAGED, (size_t)(end_ - first_) * 2);
    }
  }

 private:
  __attribute__((noinline)) void finish(int64_t n, int64_t m, const int32_t* c) const {
    const Floats tokens = load<Floats>(s_ + m);
    __m512i pairs[SIDE];
#pragma GCC unroll 2
    for (int side = 0; side < 2; side++) {
      const int64_t at = n + side * SIDE;
      const int32_t* sums = c + side * 2 * TILE / 4;
      Floats y[HADAMARD] = {};
      hadamard<false>(
          [&](int i) __attribute__((always_inline)) {
            return to_floats(load<Ints>(sums + i * SIDE)) * tokens * all(a_.row_scale[at + i]);
          },
          y);
      if (a_.bias) {
#pragma GCC unroll 16
        for (int i = 0; i < HADAMARD; i++) y[i] = y[i] + all(bias_[at - first_ + i]);
      }
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) {
        pairs[side * 8 + i] = (__m512i)((rounded(y[2 * i]) >> 16) | (rounded(y[2 * i + 1]) & 0xffff0000));
      }
    }
    transpose(pairs);
    for (int64_t i = 0; i < smaller(SIDE, a_.rows - m); i++) {
      _mm512_store_si512(staged_ + (m + i) * STAGED + (n - first_), pairs[i]);
    }
  }

  const Arguments& a_;
  int64_t first_, end_;
  const float* s_;
  uint16_t* staged_;
  float bias_[STAGED];
};

// Sums of one panel as (rows, PANEL), for a sink of layer.cpp's.
class PanelSums {
 public:
  static int64_t bytes(const Tiling& tiling) { return tiling.groups * SIDE * PANEL * 4; }

  PanelSums(int64_t rows, char* workspace) : rows_(rows), acc_((int32_t*)workspace) {}

  void take(int64_t n, int64_t pair, const int32_t* c) const {
    for (int64_t tile = 0; tile < 4; tile++) {  // the sums of a group that is not there go nowhere
      const int64_t m = pair * TOKENS + tile % 2 * SIDE, at = n % PANEL + tile / 2 * SIDE;
      if (m >= rows_) continue;
      __m512i sums[SIDE];
      for (int64_t i = 0; i < SIDE; i++) sums[i] = _mm512_load_si512(c + (tile * SIDE + i) * SIDE);
      transpose(sums);
      for (int64_t i = 0; i < SIDE; i++) _mm512_store_si512(acc_ + (m + i) * PANEL + at, sums[i]);
    }
  }

  template <class Sink>
  void write(const Sink& sink) const {
    sink.finish(0, rows_, acc_);
  }

 private:
  int64_t rows_;
  int32_t* acc_;
};

}  // namespace KERNEL
