// y = x H for blocks of 16, H Sylvester's matrix / 4: the rotation of the documented settings.
//
// Its factors are +-1/4, so that a product can as well be an addition of x / 4, and the processor has other units
// for additions than for multiply-adds: half of the columns take the one way, half the other. Sums are formed in
// the order of all rotations and have the same bits, unless x / 4 is subnormal: results are given without additions.
#pragma once
#include "vectors.hpp"

namespace KERNEL {

constexpr int HADAMARD = 16;
constexpr bool HAS_HADAMARD = COLUMNS >= HADAMARD;  // where the registers hold its sums

constexpr bool is_minus(int i, int j) { return __builtin_popcount((unsigned)(i & j)) % 2; }

struct HadamardMatrix {
  float at[HADAMARD * HADAMARD] = {};

  constexpr HadamardMatrix() {
    for (int i = 0; i < HADAMARD * HADAMARD; i++) at[i] = is_minus(i / HADAMARD, i % HADAMARD) ? -0.25f : 0.25f;
  }
};

// Whether r, (16, 16), is this matrix: asked for each panel, so by memcmp.
static inline bool is_hadamard(const float* r) {
  static constexpr HadamardMatrix matrix;
  return memcmp(r, matrix.at, sizeof matrix.at) == 0;
}

// One block: `input(i)` for its 16 inputs; with additions or without. Sums that begin alike are formed once, by any
// compiler: 171 operations of 256.
template <bool ADDITIONS = true, class Input>
__attribute__((always_inline)) static inline void hadamard(const Input& input, Floats (&sum)[HADAMARD]) {
  const Floats plus = all(0.25f), minus = all(-0.25f);
#pragma GCC unroll 16
  for (int i = 0; i < HADAMARD; i++) {
    const Floats x = input(i), quarter = x * plus;
#pragma GCC unroll 16
    for (int j = 0; j < HADAMARD; j++) {
      if (ADDITIONS && j % 2) {
        sum[j] = is_minus(i, j) ? sum[j] - quarter : sum[j] + quarter;
      } else {
        sum[j] = fma(x, is_minus(i, j) ? minus : plus, sum[j]);
      }
    }
  }
}

}  // namespace KERNEL
