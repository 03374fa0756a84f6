// y = (acc * s_x * s_w) U^T + bias: everything after the integer GEMM. One function, whoever formed the sums.
#pragma once
#include "panel.hpp"

namespace KERNEL {

// U^T of `width` outputs from n on, its rows rounded up to whole vectors: (width, stride), zeros beyond.
static void transpose_rotation(const Arguments& a, int64_t n, int64_t width, int64_t stride, float* out) {
  const int64_t block = a.block_out;
  const float* u = a.rotation_out.rows == 1 ? a.rotation_out.data : a.rotation_out + n * block;
  for (int64_t i = 0; i < width; i++) {
    for (int64_t j = 0; j < stride; j++) out[i * stride + j] = j < width ? u[j * block + i] : 0.0f;
  }
}

// VECTORS vectors of outputs, for ROWS rows: each `in U^T` with its own inputs and columns of U^T. Two at a time
// keep the adders busy.
struct Vector {
  const float* in;  // (rows, in_stride), `width` of each
  const float* ut;  // (width, stride)
  float* out;       // (rows, out_stride), LANES of each
};

struct Strides {
  int64_t in, ut, out;
};

template <int ROWS, int VECTORS>
__attribute__((always_inline)) static inline void restore_rows(const Vector* of, int64_t width, Strides strides) {
  Floats sum[ROWS][VECTORS] = {};
  const Vector first = of[0], last = of[VECTORS - 1];
  for (int64_t i = 0; i < width; i++) {
    const Floats u[2] = {load<Floats>(first.ut + i * strides.ut), load<Floats>(last.ut + i * strides.ut)};
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++) {
      sum[m][0] = fma(all(first.in[m * strides.in + i]), u[0], sum[m][0]);
      if (VECTORS == 2) sum[m][VECTORS - 1] = fma(all(last.in[m * strides.in + i]), u[1], sum[m][VECTORS - 1]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++) {
    store(first.out + m * strides.out, sum[m][0]);
    if (VECTORS == 2) store(last.out + m * strides.out, sum[m][VECTORS - 1]);
  }
}

// At most MOST rows, each number of them by a function of its own.
template <int VECTORS, int MOST = TILE_ROWS>
__attribute__((always_inline)) static inline void restore(int rows, const Vector* of, int64_t width, Strides strides) {
  if constexpr (MOST > 1) {
    if (rows < MOST) return restore<VECTORS, MOST - 1>(rows, of, width, strides);
  }
  restore_rows<MOST, VECTORS>(of, width, strides);
}

// `count` outputs from (m, n) on: add the bias, round to the dtype of y.
template <int64_t DTYPE>
static inline void emit_as(const void* bias, int64_t bias_dtype, int64_t count, const float* in, void* y) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    Floats v = load<Floats>(in + i);
    if (bias) v = v + load_floats(bias, i, bias_dtype);
    store_floats(y, i, DTYPE, v);
  }
  if (i < count) {
    const int64_t bytes = bytes_of(DTYPE);
    float rest[LANES] = {};
    for (int64_t j = i; j < count; j++) rest[j - i] = in[j] + (bias ? load_float(bias, j, bias_dtype) : 0.0f);
    char rounded[LANES * 4];
    store_floats(rounded, 0, DTYPE, load<Floats>(rest));
    memcpy((char*)y + i * bytes, rounded, (size_t)((count - i) * bytes));
  }
}

static inline void emit(const Arguments& a, int64_t m, int64_t n, int64_t count, const float* in) {
  void* y = (char*)a.y + (m * a.out_features + n) * bytes_of(a.y_dtype);
  const void* bias = a.bias ? (const char*)a.bias.data + n * bytes_of(a.bias.dtype) : nullptr;
  if (a.y_dtype == kBFloat16) return emit_as<kBFloat16>(bias, a.bias.dtype, count, in, y);
  if (a.y_dtype == kFloat16) return emit_as<kFloat16>(bias, a.bias.dtype, count, in, y);
  return emit_as<kFloat32>(bias, a.bias.dtype, count, in, y);
}

// How one panel of outputs ends. Rotations of a block that a panel holds whole are undone here; the sums of
// others are only scaled, into `wide`, and `restore_wide` does the rest.
struct PanelEpilogue {
  const Arguments& a;
  int64_t n, width;
  float scale[PANEL] = {};
  const float* ut = nullptr;  // (PANEL, block_out), one block's if they share it
  bool is_square = false;
  float bias[PANEL];  // for squares

  static bool is_whole(const Arguments& a) {
    return !a.rotation_out || (PANEL % a.block_out == 0 && a.block_out % LANES == 0);
  }

  // Workspace of `prepare`, or of `restore_wide`.
  static int64_t bytes(const Arguments& a) {
    if (!a.rotation_out) return 0;
    if (is_whole(a)) return round_up(PANEL * a.block_out * 4, 64);
    const int64_t block = smaller(a.block_out, a.out_features);
    return round_up(round_up(block, LANES) * (block + TILE_ROWS) * 4, 64);
  }

  // Before a thread's first panel: the rotation that all share. `transposed`: workspace for (PANEL, block_out) floats.
  static void prepare(const Arguments& a, float* transposed) {
    if (a.rotation_out && is_whole(a) && a.rotation_out.rows == 1)
      transpose_rotation(a, 0, a.block_out, a.block_out, transposed);
  }

  PanelEpilogue(const Arguments& a, int64_t n, float* transposed)
      : a(a), n(n), width(smaller(PANEL, a.out_features - n)) {
    memcpy(scale, a.row_scale + n, (size_t)width * 4);
    if (!a.rotation_out || !is_whole(a)) return;
    is_square = width == PANEL && has_square_way(a);
    for (int64_t i = 0; is_square && i < PANEL; i += LANES) {
      is_square = is_far_from_zero(scale + i);
      if (a.bias) store(bias + i, load_floats(a.bias, n + i, a.bias.dtype));
    }
    ut = transposed;
    for (int64_t i = 0; a.rotation_out.rows > 1 && i < width; i += a.block_out) {
      transpose_rotation(a, n + i, a.block_out, a.block_out, transposed + i * a.block_out);
    }
  }

  // Rows [m, m + rows) from their sums, (rows, PANEL), and token scales s, (rows,).
  void finish(int64_t m, int64_t rows, const int32_t* acc, const float* s, float* wide) const {
    int64_t r = 0;
    for (; is_square && r + LANES <= rows && is_far_from_zero(s + r); r += LANES) {
      finish_square(a, m + r, n, {acc + r * PANEL, s + r, scale, a.bias ? bias : nullptr});
    }
    for (; r < rows; r += TILE_ROWS) {
      finish_few(m + r, (int)smaller(TILE_ROWS, rows - r), acc + r * PANEL, s + r, wide);
    }
  }

 private:
  // A quarter of a scaled sum has to be zero or a normal number, as hadamard.hpp wants it.
  static bool is_far_from_zero(const float* scales) { return !is_any((Ints)(load<Floats>(scales) < all(0x1p-60f))); }

  __attribute__((noinline)) void finish_few(int64_t m, int rows, const int32_t* acc, const float* s,
                                            float* wide) const {
    alignas(64) float y[TILE_ROWS * PANEL], restored[TILE_ROWS * PANEL];
    for (int r = 0; r < rows; r++) {
      for (int i = 0; i < PANEL; i += LANES) {
        const Floats sums = to_floats(load<Ints>(acc + r * PANEL + i));
        store(y + r * PANEL + i, sums * all(s[r]) * load<Floats>(scale + i));
      }
      // Behind the last output are sums of whatever: times a scale of zero they are nan where they overflowed.
      for (int64_t i = width; i < PANEL; i++) y[r * PANEL + i] = 0.0f;
    }
    const float* result = y;
    if (wide) {
      for (int r = 0; r < rows; r++) memcpy(wide + (m + r) * a.out_features + n, y + r * PANEL, width * 4);
      return;
    }
    if (ut) {
      const int64_t block = a.block_out, shared = a.rotation_out.rows == 1;
      for (int64_t i = 0; i < PANEL; i += 2 * LANES) {
        Vector of[2];
        for (int64_t v = 0; v < 2; v++) {
          const int64_t at = i + v * LANES, start = at / block * block;
          of[v] = {y + start, ut + (shared ? 0 : start * block) + (at - start), restored + at};
        }
        restore<2>(rows, of, block, {PANEL, block, PANEL});  // strides that the compiler knows
      }
      result = restored;
    }
    for (int r = 0; r < rows; r++) emit(a, m + r, n, width, result + r * PANEL);
  }
};

// Where a panel's sums go: through the epilogue, or as they are.
struct Outputs {
  const PanelEpilogue& epilogue;
  const float* s;
  float* wide;

  void finish(int64_t m, int64_t count, const int32_t* acc) const { epilogue.finish(m, count, acc, s + m, wide); }
};

struct Sums {
  const Arguments& a;
  int64_t n;

  void finish(int64_t m, int64_t count, const int32_t* acc) const {
    const int64_t width = smaller(PANEL, a.out_features - n);
    for (int64_t r = 0; r < count; r++) {
      memcpy(a.acc + (m + r) * a.out_features + n, acc + r * PANEL, (size_t)width * 4);
    }
  }
};

// The rotation of one block of any size, for scaled sums in `wide`, (rows, N). `workspace`: block_out rounded up to
// vectors, times block_out, and TILE_ROWS more.
static void restore_wide(const Arguments& a, int64_t block, int64_t rows, const float* wide, float* workspace) {
  const int64_t n = block * a.block_out, width = smaller(a.block_out, a.out_features - n);
  const int64_t stride = round_up(width, LANES);
  float* restored = workspace + stride * width;
  transpose_rotation(a, n, width, stride, workspace);
  for (int64_t m = 0; m < rows; m += TILE_ROWS) {
    const int count = (int)smaller(TILE_ROWS, rows - m);
    const float* in = wide + m * a.out_features + n;
    for (int64_t j = 0; j < stride; j += LANES) {
      const Vector of = {in, workspace + j, restored + j};
      restore<1>(count, &of, width, {a.out_features, stride, stride});
    }
    for (int r = 0; r < count; r++) emit(a, m + r, n, width, restored + r * stride);
  }
}

}  // namespace KERNEL
