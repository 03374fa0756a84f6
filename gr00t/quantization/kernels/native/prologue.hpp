// x L^-1 R1 P R2: what comes before a row is quantized.
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

// A permutation that came from a file must not read anywhere.
static bool is_permutation(const Arguments& a) {
  bool inside = true;
  for (int64_t k = 0; a.perm && k < a.in_features; k++) inside &= (uint32_t)a.perm[k] < (uint32_t)a.in_features;
  return inside;
}

// LANES rows, transformed: (K rounded up, LANES) with zeros after K, and their peaks.
struct Transformed {
  const Floats* h;
  Ints peak = {};

  static int64_t bytes(const Arguments& a) { return 2 * padded(a.in_features) * (int64_t)sizeof(Floats); }

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

}  // namespace KERNEL
