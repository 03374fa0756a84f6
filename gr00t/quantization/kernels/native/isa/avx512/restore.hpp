// The epilogue of the documented settings by AVX-512: Hadamard's rotation of blocks of 16 undone, y bfloat16.
//
// Rows are lanes, as in the prologue: 16 rows are transposed, restored by additions of vectors, rounded, and
// transposed back as pairs of bfloat16, so that whole lines of y are written. On Zen 4 16 x 16 outputs take 260 cycles
// instead of 400 from the cache, 420 instead of 540 in a layer.
#pragma once
#include "../../hadamard.hpp"
#include "../../panel.hpp"
#include "transpose.hpp"

namespace KERNEL {

static inline bool has_square_way(const Arguments& a) {
  const Array<const float>& r = a.rotation_out;
  return r && r.rows == 1 && a.block_out == HADAMARD && a.y_dtype == kBFloat16 && is_hadamard(r);
}

// Half to even, in the upper half of each word; a nan becomes torch's.
static inline Words rounded(Floats v) {
  const __m512i table = _mm512_set1_epi32(0x11111100);  // of a nan the first operand, else the second
  const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
  const Words bits = (Words)_mm512_fixupimm_ps(quiet, (__m512)v, table, 0);
  return bits + 0x7fff + ((bits >> 16) & 1);
}

static void finish_square(const Arguments& a, int64_t m, int64_t n, const Square& square) {
  const Floats tokens = load<Floats>(square.s);
  for (int64_t line = 0; line < PANEL; line += 2 * HADAMARD) {  // 64 bytes of each row
    __m512i pairs[16];
#pragma GCC unroll 2
    for (int64_t side = 0; side < 2; side++) {
      const int64_t first = line + side * HADAMARD;
      __m512i four[4];
      Floats y[HADAMARD] = {};
      const auto scaled = [&](int i) __attribute__((always_inline)) {  // four at a time leave registers for the sums
        if (i % 4 == 0) load_transposed((const uint8_t*)(square.acc + first + i), PANEL * 4, four);
        return to_floats((Ints)four[i % 4]) * tokens * all(square.scale[first + i]);
      };
      hadamard(scaled, y);
#pragma GCC unroll 8
      for (int i = 0; i < HADAMARD; i += 2) {
        Floats low = y[i], high = y[i + 1];
        if (square.bias) {
          low = low + all(square.bias[first + i]);
          high = high + all(square.bias[first + i + 1]);
        }
        pairs[side * 8 + i / 2] = (__m512i)((rounded(low) >> 16) | (rounded(high) & 0xffff0000));
      }
    }
    transpose(pairs);
    uint16_t* y = (uint16_t*)a.y + m * a.out_features + n + line;
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) _mm512_storeu_si512(y + r * a.out_features, pairs[r]);
  }
}

}  // namespace KERNEL
