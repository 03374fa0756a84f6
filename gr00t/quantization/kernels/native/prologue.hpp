// x L^-1 R1 P R2, and its codes: everything before the integer GEMM.
//
// LANES rows (tokens) are transposed so that a vector holds one channel of each. Then a permutation only chooses
// which vector to load, a rotation is multiply-adds by numbers, and a row's peak is a lane's.
#pragma once
#include "hadamard.hpp"

namespace KERNEL {

// Rows are padded with zeros to whole words of the GEMM.
static inline int64_t padded(int64_t in_features) { return round_up(in_features, 8); }

// Rows [first, first + count) of x, (M, K), as (K, LANES); missing rows are zero.
static void transpose_rows(const void* x, int64_t dtype, int64_t k_all, int64_t first, int64_t count, Floats* out) {
  const int64_t bytes = bytes_of(dtype);
  const char* rows = (const char*)x + first * k_all * bytes;
  for (int64_t k = transpose_vectors(rows, dtype, count, k_all, out); k < k_all; k++) {
    Floats v = {};
    for (int m = 0; m < count; m++) v[m] = load_float(rows + m * k_all * bytes, k, dtype);
    out[k] = v;
  }
}

template <int COUNT>
__attribute__((always_inline)) static inline void keep(const Floats (&sum)[COUNT], Floats* out, Ints& peak) {
#pragma GCC unroll 16
  for (int j = 0; j < COUNT; j++) {
    out[j] = sum[j];
    peak = larger_magnitude(peak, sum[j]);
  }
}

// COUNT columns of one block's `y = x R`: `in` is where its inputs are, `index` which of them.
template <int COUNT>
static inline void rotate_columns(const Floats* in, const int32_t* index, int64_t width, const float* r, int64_t stride,
                                  Floats* out, Ints& peak) {
  Floats sum[COUNT] = {};
  for (int64_t i = 0; i < width; i++) {
    Floats x = in[index ? index[i] : i];
#pragma GCC unroll 16
    for (int j = 0; j < COUNT; j++) sum[j] = fma(x, all(r[i * stride + j]), sum[j]);
  }
  keep(sum, out, peak);
}

// out = in[index] R, both (K, LANES), block by block; a shorter last block uses the corner of its matrix. Returns
// the peaks of out.
static Ints rotate_blocks(const Floats* in, const int32_t* index, const Array<const float>& r, int64_t block,
                          int64_t k_all, Floats* out) {
  Ints peak = {};
  const bool is_quick = HAS_HADAMARD && r.rows == 1 && block == HADAMARD && k_all % block == 0 && is_hadamard(r);
  for (int64_t k = 0; k < k_all; k += block) {
    const float* matrix = r.rows == 1 ? r.data : r + k * block;
    const int64_t width = smaller(block, k_all - k);
    const Floats* from = index ? in : in + k;
    const int32_t* chosen = index ? index + k : nullptr;
    if (is_quick) {
      Floats sum[HADAMARD] = {};
      hadamard([&](int i) { return from[chosen ? chosen[i] : i]; }, sum);
      keep(sum, out + k, peak);
      continue;
    }
    int64_t j = 0;
    for (; j + COLUMNS <= width; j += COLUMNS) {
      rotate_columns<COLUMNS>(from, chosen, width, matrix + j, block, out + k + j, peak);
    }
    for (; j + 4 <= width; j += 4) rotate_columns<4>(from, chosen, width, matrix + j, block, out + k + j, peak);
    for (; j < width; j++) rotate_columns<1>(from, chosen, width, matrix + j, block, out + k + j, peak);
  }
  return peak;
}

// LANES rows, transformed: (K rounded up, LANES) with zeros after K, and their peaks.
struct Transformed {
  const Floats* h;
  Ints peak = {};

  // `one` and `two` are workspace for h each.
  Transformed(const Arguments& a, int64_t first, int64_t count, Floats* one, Floats* two) {
    const int64_t k_all = a.in_features;
    transpose_rows(a.x, a.x_dtype, k_all, first, count, one);
    if (a.smoothing) {
      for (int64_t k = 0; k < k_all; k++) one[k] = one[k] / all(a.smoothing[k]);
    }
    if (a.rotation_first) {
      rotate_blocks(one, nullptr, a.rotation_first, a.block_in, k_all, two);
      Floats* swapped = one;
      one = two;
      two = swapped;
    }
    if (a.rotation_in) {
      peak = rotate_blocks(one, a.perm, a.rotation_in, a.block_in, k_all, two);
    } else {
      for (int64_t k = 0; k < k_all; k++) {
        two[k] = one[a.perm ? a.perm[k] : k];
        peak = larger_magnitude(peak, two[k]);
      }
    }
    for (int64_t k = k_all; k < padded(k_all); k++) two[k] = Floats{};
    h = two;
  }
};

// How LANES rows are quantized: each by its own scale, or all channels by theirs.
struct RowScales {
  Floats scale;    // of each row, outside the sum: nan where the row holds inf or nan
  Ints is_finite;  // all ones where it does not

  RowScales(const Arguments& a, Ints peak) {
    is_finite = (Ints)(peak < all(0x7f800000));
    if (a.act_scale) {
      scale = all(1.0f);
    } else {
      const Floats least = all((float)a.smallest_scale);
      scale = (Floats)peak / all((float)largest_code(a.activation_bits));
      scale = scale > least ? scale : least;
    }
    scale = (Floats)(((Ints)scale & is_finite) | (~is_finite & 0x7fc00000));
  }
};

template <bool STATIC>
static inline Ints code_of(const Arguments& a, const RowScales& rows, const Floats* h, int64_t k) {
  Floats scaled;
  if (STATIC) {  // a channel's scale may be exceeded: saturate
    const Floats low = all((float)smallest_code(a.activation_bits)), high = all((float)largest_code(a.activation_bits));
    scaled = h[k] / all(k < a.in_features ? a.act_scale[k] : 1.0f);
    scaled = scaled > low ? scaled : low;
    scaled = scaled < high ? scaled : high;
  } else {
    scaled = h[k] / rows.scale;
  }
  scaled = (Floats)((Ints)scaled & rows.is_finite);
  return to_nearest(scaled);
}

// Codes as the GEMM reads them: words of four inputs, (K / 4, LANES), each eight inputs as the even and the
// odd four, since that is how unpacked nibbles come. Returns the sum of each row.
template <bool STATIC>
static Ints quantize_words(const Arguments& a, const RowScales& rows, const Floats* h, Words* out) {
  Ints sum = {};
  for (int64_t k = 0; k < padded(a.in_features); k += 8) {
    Words code[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      const Ints number = code_of<STATIC>(a, rows, h, k + i);
      sum += number;
      code[i] = (Words)number & 0xff;
    }
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) {
      out[k / 4 + odd] = code[odd] | (code[odd + 2] << 8) | (code[odd + 4] << 16) | (code[odd + 6] << 24);
    }
  }
  return sum;
}

// Codes as a matrix, (rows, K).
template <bool STATIC>
static void quantize_matrix(const Arguments& a, const RowScales& rows, const Floats* h, int64_t count, int8_t* q) {
  const int64_t k_all = a.in_features;
  for (int64_t k = 0; k < k_all; k += 4) {
    Ints code[4];
    for (int i = 0; i < 4; i++) code[i] = code_of<STATIC>(a, rows, h, smaller(k + i, k_all - 1));
    Words word = ((Words)code[0] & 0xff) | (((Words)code[1] & 0xff) << 8) | (((Words)code[2] & 0xff) << 16) |
                 ((Words)code[3] << 24);
    uint32_t words[LANES];
    store(words, word);
    const int64_t bytes = smaller(4, k_all - k);
    for (int m = 0; m < count; m++) memcpy(q + m * k_all + k, words + m, bytes);
  }
}

}  // namespace KERNEL
