// A vector of LANES floats or int32. What C++ has no sign for is declared here and defined by each file of isa/, which
// says how many LANES there are and then includes this one.
//
// Sums are fused multiply-adds in a fixed order everywhere, so every instruction set gives the same bits; the compiler
// may not contract anything by itself (-ffp-contract=off).
#pragma once
#include "numbers.hpp"

namespace KERNEL {

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

template <class Vector, class T>
static inline Vector load(const T* from) {
  Vector v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <class Vector, class T>
static inline void store(T* to, Vector v) {
  memcpy(to, &v, sizeof v);
}

// Not 0 + value, which is another number for -0 and so an addition.
static inline Floats all(float value) { return value - Floats{}; }
static inline Ints all(int32_t value) { return Ints{} + value; }

static inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

static inline Floats where(Ints condition, Floats yes, Floats no) {
  return (Floats)(((Ints)yes & condition) | ((Ints)no & ~condition));
}
static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

// a * b + c, rounded once.
static inline Floats fma(Floats a, Floats b, Floats c);

// To the nearest integer, half to even; |v| < 2^31.
static inline Ints to_nearest(Floats v);

// Float16, half to even.
static inline Floats load_halves(const uint16_t* from);
static inline void store_halves(uint16_t* to, Floats v);

// Whether any lane of a condition holds.
static inline bool is_any(Ints condition);

static inline Words where_nan(Floats v, Words yes, Words no);

// Of `count` rows at x, of `k_all` numbers, the first so many channels as (K, LANES) as have a way of their own.
// Missing rows are zero. Returns how many channels that were.
static inline int64_t transpose_vectors(const char* x, int64_t dtype, int64_t count, int64_t k_all, Floats* out);

static inline Floats load_floats(const void* row, int64_t at, int64_t dtype) {
  if (dtype == kFloat32) return load<Floats>((const float*)row + at);
  if (dtype == kFloat16) return load_halves((const uint16_t*)row + at);
  Words wide = __builtin_convertvector(load<Halves>((const uint16_t*)row + at), Words);
  return (Floats)(wide << 16);
}

static inline void store_floats(void* row, int64_t at, int64_t dtype, Floats v) {
  if (dtype == kFloat32) {
    store((float*)row + at, v);
  } else if (dtype == kFloat16) {
    store_halves((uint16_t*)row + at, v);
  } else {  // half to even; a nan becomes torch's
    const Words bits = (Words)v, quiet = Words{} + 0x7fc0;
    const Words rounded = where_nan(v, quiet, (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    store((uint16_t*)row + at, __builtin_convertvector(rounded, Halves));
  }
}

// Of the magnitudes' bits, whose order is that of the numbers, nan last.
static inline Ints larger_magnitude(Ints peak, Floats v) {
  const Ints magnitude = (Ints)v & 0x7fffffff;
  return magnitude > peak ? magnitude : peak;
}

}  // namespace KERNEL
