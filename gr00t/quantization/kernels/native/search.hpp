// Codes and scales of a weight: `quantizers.quantize_weight`, operation for operation, to the same bits.
//
// LANES output rows are transposed as tokens are in prologue.hpp: a lane is a row, so nothing is added across lanes.
#pragma once
#include "prologue.hpp"

namespace KERNEL {

// Of numbers that an int32 holds.
static inline Floats rounded_up(Floats v) {
  const Floats nearest = to_floats(to_nearest(v));
  return where((Ints)(nearest < v), nearest + all(1.0f), nearest);
}

// The second half added to the first, again and again: the order of `quantizers._sum_in_halves`.
static inline Floats sum_in_halves(Floats* x, int64_t count) {
  while (count > 1) {
    const int64_t half = (count + 1) / 2;
    for (int64_t i = half; i < count; i++) x[i - half] += x[i];
    count = half;
  }
  return x[0];
}

class Search {
 public:
  // Workspace for the rows, the errors of a block's weights, and two numbers for each block.
  static int64_t bytes(const SearchCall& a) {
    return (padded(a.in_features) + a.block_in + 2 * blocks(a)) * (int64_t)sizeof(Floats);
  }

  Search(const SearchCall& a, int64_t first, Floats* workspace)
      : a_(a),
        first_(first),
        count_(smaller(LANES, a.out_features - first)),
        w_(workspace),
        errors_(w_ + padded(a.in_features)),
        wanted_(errors_ + a.block_in),
        chosen_(wanted_ + blocks(a)) {}

  void run() const {
    transpose_rows(a_.weight, a_.weight_dtype, a_.in_features, first_, count_, w_);
    Floats peak = all(0.0f);
    for (int64_t b = 0; b < blocks(a_); b++) {
      wanted_[b] = scale_for(peak_of(b));
      peak = larger(peak, wanted_[b]);
    }
    const Floats row_scale = a_.shares ? search_rows(peak) : search_blocks(peak);
    for (int64_t m = 0; m < count_; m++) a_.row_scale[first_ + m] = row_scale[m];
    write_codes();
  }

 private:
  static int64_t blocks(const SearchCall& a) { return (a.in_features + a.block_in - 1) / a.block_in; }

  int64_t width(int64_t b) const { return smaller(a_.block_in, a_.in_features - b * a_.block_in); }

  Floats peak_of(int64_t b) const {
    Ints peak = {};
    for (int64_t i = 0; i < width(b); i++) peak = larger_magnitude(peak, w_[b * a_.block_in + i]);
    return (Floats)peak;
  }

  Floats scale_for(Floats peak) const {
    return larger(peak / all((float)largest_code(a_.bits)), all((float)a_.smallest_scale));
  }

  // One scale per row, the best of a few shares of its `full` range, which the blocks' `chosen_` then hold.
  Floats search_rows(Floats full) const {
    Floats best = full, best_error = all(__builtin_inff());
    for (int64_t t = 0; t < a_.tries; t++) {
      const Floats scale = full * all(a_.shares[t]);
      for (int64_t b = 0; b < blocks(a_); b++) wanted_[b] = rounding_error(b, scale);
      const Floats error = sum_in_halves(wanted_, blocks(a_)) * all(a_.shares[t]) * all(a_.shares[t]);
      best = where((Ints)(error < best_error), scale, best);
      best_error = smaller(error, best_error);
    }
    for (int64_t b = 0; b < blocks(a_); b++) chosen_[b] = best;
    return best;
  }

  // A step per row, of which the peak block's scale is the largest multiple; then the best multiple per block.
  Floats search_blocks(Floats peak) const {
    const Floats step = peak / all((float)(128 / -smallest_code(a_.bits)));
    for (int64_t k = 0; k < a_.in_features; k++) w_[k] = w_[k] / step;
    for (int64_t b = 0; b < blocks(a_); b++) {
      const Floats unclipped = larger(rounded_up(wanted_[b] / step), all(1.0f));
      Floats best = unclipped, best_error = all(__builtin_inff());
      for (int64_t t = 0; t < a_.tries; t++) {
        const Floats multiple = larger(unclipped - all((float)t), all(1.0f));
        const Floats error = rounding_error(b, multiple) * multiple * multiple;
        best = where((Ints)(error < best_error), multiple, best);
        best_error = smaller(error, best_error);
      }
      chosen_[b] = best;
      for (int64_t m = 0; m < count_; m++) a_.block_scale[(first_ + m) * blocks(a_) + b] = (uint8_t)best[m];
    }
    return step;
  }

  // Sum of a block's squared rounding errors in units of its scale.
  Floats rounding_error(int64_t b, Floats scale) const {
    const int64_t count = width(b);
    for (int64_t i = 0; i < count; i++) {
      const Floats scaled = w_[b * a_.block_in + i] / scale;
      const Floats error = code_of(scaled) - scaled;
      errors_[i] = error * error;
    }
    for (int64_t i = count; i < a_.block_in; i++) errors_[i] = all(0.0f);  // zeros: they round to themselves
    return sum_in_halves(errors_, a_.block_in);
  }

  Floats code_of(Floats scaled) const {
    const Floats rounded = to_floats(to_nearest(scaled));
    return smaller(larger(rounded, all((float)smallest_code(a_.bits))), all((float)largest_code(a_.bits)));
  }

  void write_codes() const {
    for (int64_t b = 0; b < blocks(a_); b++) {
      for (int64_t k = b * a_.block_in; k < b * a_.block_in + width(b); k++) {
        const Ints code = to_nearest(code_of(w_[k] / chosen_[b]));
        for (int64_t m = 0; m < count_; m++) a_.codes[(first_ + m) * a_.in_features + k] = (int8_t)code[m];
      }
    }
  }

  const SearchCall& a_;
  int64_t first_, count_;
  Floats *w_, *errors_, *wanted_, *chosen_;
};

}  // namespace KERNEL
