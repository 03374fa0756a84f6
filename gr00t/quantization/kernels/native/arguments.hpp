// What one call gets. Every field is eight bytes wide; the order is that of `_FIELDS` in library.py.
//
// Shapes: M rows (tokens), K in_features, N out_features, B a block of channels. An absent tensor is null.
#pragma once
#include <cstdint>

enum Dtype : int64_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

struct Arguments {
  int64_t threads;
  int64_t rows;          // M
  int64_t in_features;   // K
  int64_t out_features;  // N

  // Front: x (M, K), smoothing (K,), rotations (blocks or 1, B, B), perm (K,), act_scale (K,).
  const void* x;
  int64_t x_dtype;
  const float* smoothing;
  const float* rotation_first;
  int64_t first_blocks;
  const int32_t* perm;
  const float* rotation_in;
  int64_t in_blocks;
  int64_t block_in;
  const float* act_scale;  // null: a scale per row, found here
  int64_t qmin;
  int64_t qmax;
  double smallest_scale;

  // Weight: codes (N, ceil(K / 2)) or (N, K), block_scale (N, ceil(G / 2)) or (N, G), row_scale (N,).
  const uint8_t* codes;
  int64_t code_bits;  // 4 or 8: how they are stored
  const uint8_t* block_scale;
  int64_t scale_bits;    // 4 or 8 likewise
  int64_t scale_offset;  // what stored 4-bit scales are less than the scales
  const float* row_scale;

  // Rear: rotation_out (blocks or 1, B, B), bias (N,), y (M, N).
  const float* rotation_out;
  int64_t out_blocks;
  int64_t block_out;
  const void* bias;
  int64_t bias_dtype;
  void* y;
  int64_t y_dtype;

  // What the parts hand to each other when they are called one by one.
  float* h;      // (M, K)
  int8_t* q;     // (M, K)
  float* s;      // (M,)
  int32_t* acc;  // (M, N)

  // Search: x is a weight, whose output rows are M here. Its codes go to q, its row scales to s.
  const float* tried;  // (tries,) shares of a row's range; null: as many block scales, counted down
  int64_t tries;
  uint8_t* found_scale;  // (M, G); left alone where `tried` is given
};

// One instruction set's implementation. Functions return 0; 1 where memory ran out, 2 where perm is no
// permutation.
struct Kernel {
  const char* name;
  bool (*is_supported)();
  int (*rotate)(const Arguments&);      // x -> h
  int (*front)(const Arguments&);       // x -> q, s
  int (*accumulate)(const Arguments&);  // q, weight -> acc
  int (*rear)(const Arguments&);        // acc, s -> y
  int (*linear)(const Arguments&);      // x -> y
  int (*search)(const Arguments&);      // weight -> its codes and scales
  double (*peak)(int64_t rounds);       // operations of `rounds` of the innermost loop, from registers alone
};
