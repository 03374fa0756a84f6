// From transformed rows to codes: round(h / scale), half to even, without a division for each.
#pragma once
#include "prologue.hpp"

namespace KERNEL {

// How LANES rows are quantized: each by its own scale, or all channels by theirs.
struct RowScales {
  Floats scale;    // of each row, outside the sum: nan where the row holds inf or nan
  Floats inverse;  // 1 / scale, nan where it is of no use: such rows are divided
  Ints is_finite;  // all ones where the row holds neither inf nor nan

  RowScales(const Arguments& a, Ints peak) {
    is_finite = (Ints)(peak < all(0x7f800000));
    if (a.act_scale) {
      scale = all(1.0f);
    } else {
      const Floats least = all((float)a.smallest_scale);
      scale = (Floats)peak / all((float)largest_code(a.activation_bits));
      scale = scale > least ? scale : least;
    }
    const Floats none = (Floats)all(0x7fc00000);
    scale = where(is_finite, scale, none);
    inverse = where((Ints)(scale < all(0x1p125f)), all(1.0f) / scale, none);
  }
};

// A code plus this, as a float, has the code in its low bits: they count from ROUNDER's own. The addition rounds to
// an integer, half to even.
constexpr float ROUNDER = 0x1.8p23f;
constexpr uint32_t ROUNDER_BITS = 0x4b400000;

// The codes of eight channels from k on, each on top of ROUNDER_BITS.
template <bool STATIC>
static inline void divide(const Arguments& a, const RowScales& rows, const Floats* h, int64_t k, Words (&code)[8]) {
  const Floats low = all((float)smallest_code(a.activation_bits)), high = all((float)largest_code(a.activation_bits));
  for (int i = 0; i < 8; i++) {
    Floats scaled;
    if (STATIC) {  // a channel's scale may be exceeded: saturate
      scaled = h[k + i] / all(k + i < a.in_features ? a.act_scale[k + i] : 1.0f);
      scaled = smaller(larger(scaled, low), high);
    } else {
      scaled = h[k + i] / rows.scale;
    }
    scaled = (Floats)((Ints)scaled & rows.is_finite);
    code[i] = (Words)(scaled + all(ROUNDER));
  }
}

// The same where rows have scales, by a multiplication where that cannot differ.
//
// q = h / scale is at most 127 and a little: q rounded to a float is within 2^-18 of it, and p = h * inverse, formed
// exactly in the multiply-adds, within 127 * 2^-24 < 2^-17, since `inverse` is neither subnormal nor infinite (a
// scale is at least `smallest_scale`, 2^-102). So the two are less than 2^-16 apart, and round to the same integer
// unless p is that close to a tie; then, and for nan, the quotient decides: in one block of 16 x 8 codes of 128.
// 16 x 16 codes take 76 cycles instead of 103 on Zen 4, whose divisions are quick.
static inline void multiply_or_divide(const Arguments& a, const RowScales& rows, const Floats* h, int64_t k,
                                      Words (&code)[8]) {
  constexpr float NEAR_TIE = 0.5f - 0x1p-15f;
  Ints farthest = {};  // from the integer that was rounded to
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    const Floats rounded = fma(h[k + i], rows.inverse, all(ROUNDER));
    farthest = larger_magnitude(farthest, fma(h[k + i], rows.inverse, all(ROUNDER) - rounded));
    code[i] = (Words)rounded;
  }
  if (__builtin_expect(is_any((Ints)(farthest > (Ints)all(NEAR_TIE))), 0)) divide<false>(a, rows, h, k, code);
}

// The low bytes of four codes as one word, the first lowest: each counts from -128 while they are added up, so that
// none borrows from the next.
static inline Words word_of(Words first, Words second, Words third, Words fourth) {
  constexpr uint32_t EACH = 0x01010101;
  const Words sum = (first + (second << 8)) + ((third + (fourth << 8)) << 16);
  return (sum + (128 * EACH - ROUNDER_BITS * EACH)) ^ (128 * EACH);
}

// The codes of all channels, eight at a time: `sink(k, code)` for those from k on, each on top of ROUNDER_BITS. Zeros
// after the last channel. Returns the sum of each row.
template <bool STATIC, class Sink>
__attribute__((always_inline)) static inline Ints quantize(const Arguments& a, const RowScales& rows, const Floats* h,
                                                           const Sink& sink) {
  Words sum = {};
  for (int64_t k = 0; k < padded(a.in_features); k += 8) {
    Words code[8];
    if (STATIC) {
      divide<true>(a, rows, h, k, code);
    } else {
      multiply_or_divide(a, rows, h, k, code);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) sum += code[i];
    sink(k, code);
  }
  return (Ints)(sum - (uint32_t)padded(a.in_features) * ROUNDER_BITS);
}

template <class Sink>
static Ints quantize(const Arguments& a, const RowScales& rows, const Floats* h, const Sink& sink) {
  return a.act_scale ? quantize<true>(a, rows, h, sink) : quantize<false>(a, rows, h, sink);
}

// Codes as the GEMM reads them: words of four inputs, (K / 4, LANES), each eight inputs as the even and the
// odd four, since that is how unpacked nibbles come. Returns the sum of each row.
static Ints quantize_words(const Arguments& a, const RowScales& rows, const Floats* h, Words* out) {
  return quantize(a, rows, h, [&](int64_t k, const Words(&code)[8]) {
    out[k / 4] = word_of(code[0], code[2], code[4], code[6]);
    out[k / 4 + 1] = word_of(code[1], code[3], code[5], code[7]);
  });
}

// Codes as a matrix, (rows, K).
static void quantize_matrix(const Arguments& a, const RowScales& rows, const Floats* h, int64_t count, int8_t* q) {
  const int64_t k_all = a.in_features;
  quantize(a, rows, h, [&](int64_t k, const Words(&code)[8]) {
    uint32_t words[2][LANES];
    store(words[0], word_of(code[0], code[1], code[2], code[3]));
    store(words[1], word_of(code[4], code[5], code[6], code[7]));
    for (int64_t m = 0; m < count; m++) {
      const uint32_t eight[2] = {words[0][m], words[1][m]};
      memcpy(q + m * k_all + k, eight, (size_t)smaller(8, k_all - k));
    }
  });
}

}  // namespace KERNEL
