// What the C interface takes: a layer's operands, and what one call adds to them.
//
// `kernels/operands.py` names the same fields in the same order; the two are compared when the library is loaded.
// Shapes: M rows (tokens), K in_features, N out_features, G blocks of channels, B channels of a block.
#pragma once
#include <cstdint>

// What instruction sets share is never a function of its own: each would compile one under the same name by its
// own instructions, and the linker keep any.
#define SHARED __attribute__((always_inline)) inline

enum Dtype : int64_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kInt8 = 3, kUInt8 = 4 };

// A contiguous tensor, null where it is absent; `rows` is the length of its first dimension.
template <class T>
struct Array {
  T* data;
  int64_t rows;
  int64_t dtype;

  SHARED operator T*() const { return data; }
};

#define LINEAR_OPERANDS(FIELD)                                                     \
  FIELD(const float*, smoothing)            /* (K,) */                             \
  FIELD(const int32_t*, perm)               /* (K,) */                             \
  FIELD(const float*, act_scale)            /* (K,); null: one per row, found */   \
  FIELD(const uint8_t*, block_scale)        /* (N, packed_bytes(G, scale_bits)) */ \
  FIELD(const float*, row_scale)            /* (N,) */                             \
  FIELD(Array<const float>, rotation_first) /* (G or 1, B, B) */                   \
  FIELD(Array<const float>, rotation_in)    /* (G or 1, B, B) */                   \
  FIELD(Array<const float>, rotation_out)   /* (blocks or 1, B, B) */              \
  FIELD(Array<const uint8_t>, codes)        /* (N, packed_bytes(K, code_bits)) */  \
  FIELD(Array<const void>, bias)            /* (N,) */                             \
  FIELD(int64_t, block_in)                                                         \
  FIELD(int64_t, block_out)                                                        \
  FIELD(int64_t, activation_bits)                                                  \
  FIELD(int64_t, code_bits)  /* of a code, 2 to 8 */                               \
  FIELD(int64_t, scale_bits) /* of a block scale, 1 to 6 */

// What the parts hand to each other is there when they are called one by one.
#define LINEAR_CALL(FIELD)                                            \
  FIELD(int64_t, rows)                                                \
  FIELD(int64_t, in_features)                                         \
  FIELD(int64_t, out_features)                                        \
  FIELD(int64_t, threads)                                             \
  FIELD(double, smallest_scale)                                       \
  FIELD(const void*, x) /* (M, K) */                                  \
  FIELD(int64_t, x_dtype)                                             \
  FIELD(float*, h)     /* (M, K), x in the basis that is quantized */ \
  FIELD(int8_t*, q)    /* (M, K) */                                   \
  FIELD(float*, s)     /* (M,) */                                     \
  FIELD(int32_t*, acc) /* (M, N) */                                   \
  FIELD(void*, y)      /* (M, N) */                                   \
  FIELD(int64_t, y_dtype)

#define SEARCH_CALL(FIELD)                                                                           \
  FIELD(const void*, weight) /* (N, K) */                                                            \
  FIELD(int64_t, weight_dtype)                                                                       \
  FIELD(int8_t*, codes)        /* (N, K) */                                                          \
  FIELD(uint8_t*, block_scale) /* (N, G); left alone where `shares` are given */                     \
  FIELD(float*, row_scale)     /* (N,) */                                                            \
  FIELD(const float*, shares)  /* of a row's range, to be tried; null: block scales, counted down */ \
  FIELD(int64_t, out_features)                                                                       \
  FIELD(int64_t, in_features)                                                                        \
  FIELD(int64_t, block_in)                                                                           \
  FIELD(int64_t, bits)                                                                               \
  FIELD(int64_t, tries) /* how many shares, or block scales */                                       \
  FIELD(int64_t, threads)                                                                            \
  FIELD(double, smallest_scale)

// A panel of error-feedback rounding: P channels of N rows, N a whole number of vectors.
#define FEEDBACK_CALL(FIELD)                                                       \
  FIELD(float*, own)           /* (P, N), errors afterwards */                     \
  FIELD(const float*, target)  /* (P, N), with what errors before the panel add */ \
  FIELD(const float*, ratios)  /* (P, P), `stride` numbers from row to row */      \
  FIELD(const float*, weights) /* (P,), of squared errors */                       \
  FIELD(int8_t*, codes)        /* (P, N) */                                        \
  FIELD(uint8_t*, block_scale) /* (ceil(P / B), N) */                              \
  FIELD(int64_t, rows)                                                             \
  FIELD(int64_t, channels)                                                         \
  FIELD(int64_t, stride)                                                           \
  FIELD(int64_t, block_in)                                                         \
  FIELD(int64_t, bits)                                                             \
  FIELD(int64_t, largest) /* block scale allowed */                                \
  FIELD(int64_t, tries)   /* how many of them, counted down */                     \
  FIELD(int64_t, threads)

#define FIELD(type, name) type name;
struct LinearOperands {
  LINEAR_OPERANDS(FIELD)
};
struct LinearCall {
  LINEAR_CALL(FIELD)
};
struct SearchCall {
  SEARCH_CALL(FIELD)
};
struct FeedbackCall {
  FEEDBACK_CALL(FIELD)
};
#undef FIELD

static inline int64_t smallest_code(int64_t bits) { return -(int64_t(1) << (bits - 1)); }
static inline int64_t largest_code(int64_t bits) { return (int64_t(1) << (bits - 1)) - 1; }

// Bytes of one number of a floating-point tensor.
static inline int64_t bytes_of(int64_t dtype) { return dtype == kFloat32 ? 4 : 2; }

// Bytes of a row of `count` integers of `bits` bits; how they lie in it is said in numerics/packing.py.
SHARED int64_t packed_bytes(int64_t count, int64_t bits) {
  if (bits == 8) return count;
  const int64_t pairs = bits & 4 ? (count + 1) / 2 : 0;
  return pairs + (bits & 2 ? (count + 15) / 16 * 4 : 0) + (bits & 1 ? (count + 31) / 32 * 4 : 0);
}

struct Arguments : LinearOperands, LinearCall {
  SHARED int64_t groups() const { return (in_features + block_in - 1) / block_in; }  // G
  SHARED int64_t row_bytes() const { return packed_bytes(in_features, code_bits); }
  SHARED int64_t scale_bytes() const { return packed_bytes(groups(), scale_bits); }
  SHARED int scale_offset() const { return 1 + (1 << (scale_bits - 1)); }  // what a block scale is stored less

  // The same of `count` rows from `first` on, of what a whole layer or its sums take.
  SHARED Arguments rows_from(int64_t first, int64_t count) const {
    Arguments part = *this;
    part.rows = count;
    if (x) part.x = (const char*)x + first * in_features * bytes_of(x_dtype);
    if (y) part.y = (char*)y + first * out_features * bytes_of(y_dtype);
    if (q) part.q = q + first * in_features;
    if (acc) part.acc = acc + first * out_features;
    return part;
  }
};

// One instruction set's implementation. Functions return 0; 1 where memory ran out, 2 where perm is no permutation.
struct Kernel {
  const char* name;
  bool (*is_supported)();
  const char* (*refusal)();              // why it is not though the processor shows its instructions; or null
  int (*rotate)(const Arguments&);       // x -> h
  int (*prologue)(const Arguments&);     // x -> q, s
  int (*accumulate)(const Arguments&);   // q, codes -> acc
  int (*epilogue)(const Arguments&);     // acc, s -> y
  int (*linear)(const Arguments&);       // x -> y
  int (*search)(const SearchCall&);      // weight -> its codes and scales
  int (*feedback)(const FeedbackCall&);  // likewise, of a panel, errors passed on
  double (*peak)(int64_t rounds);        // operations of `rounds` of the innermost loop, from registers alone
};
