// A panel of error-feedback rounding: `numerics.feedback.round_panel`, operation for operation, to the same bits.
//
// A lane is an output row, and a panel comes as (channels, rows), so nothing is transposed or added across lanes.
#pragma once
#include "search.hpp"

namespace KERNEL {

class Feedback {
 public:
  // Workspace for what is rounded, what it was, and twice the channels of a block.
  static int64_t bytes(const FeedbackCall& a) { return (2 * a.channels + 2 * a.block_in) * (int64_t)sizeof(Floats); }

  Feedback(const FeedbackCall& a, int64_t first, Floats* workspace)
      : a_(a),
        first_(first),
        v_(workspace),
        own_(v_ + a.channels),
        moved_(own_ + a.channels),
        errors_(moved_ + a.block_in) {}

  void run() const {
    for (int64_t k = 0; k < a_.channels; k++) {
      v_[k] = load<Floats>(a_.target + k * a_.rows + first_);
      own_[k] = load<Floats>(a_.own + k * a_.rows + first_);
    }
    for (int64_t b = 0; b * a_.block_in < a_.channels; b++) {
      const int64_t begin = b * a_.block_in, end = smaller(begin + a_.block_in, a_.channels);
      const Floats scale = choose_scale(begin, end);
      for (int64_t m = 0; m < LANES; m++) a_.block_scale[b * a_.rows + first_ + m] = (uint8_t)scale[m];
      for (int64_t k = begin; k < end; k++) {
        round(k, scale);
        for (int64_t j = k + 1; j < end; j++) v_[j] += own_[k] * ratio(k, j);
      }
      pass_on(begin, end);
    }
    for (int64_t k = 0; k < a_.channels; k++) store(a_.own + k * a_.rows + first_, own_[k]);
  }

 private:
  Floats ratio(int64_t k, int64_t j) const { return all(a_.ratios[k * a_.stride + j]); }

  Floats code_of(Floats scaled) const {
    const Floats low = all((float)smallest_code(a_.bits)), high = all((float)largest_code(a_.bits));
    return to_floats(to_nearest(smaller(larger(scaled, low), high)));
  }

  void round(int64_t k, Floats scale) const {
    const Floats code = code_of(v_[k] / scale);
    own_[k] = own_[k] - scale * code;
    const Ints whole = to_nearest(code);
    for (int64_t m = 0; m < LANES; m++) a_.codes[k * a_.rows + first_ + m] = (int8_t)whole[m];
  }

  // What the errors of a block do to the channels after it, in the order in which they were made.
  void pass_on(int64_t begin, int64_t end) const {
    int64_t j = end;
    for (; j + COLUMNS <= a_.channels; j += COLUMNS) pass_on_to<COLUMNS>(begin, end, j);
    for (; j < a_.channels; j++) pass_on_to<1>(begin, end, j);
  }

  template <int COUNT>
  void pass_on_to(int64_t begin, int64_t end, int64_t j) const {
    Floats sum[COUNT];
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; i++) sum[i] = v_[j + i];
    for (int64_t k = begin; k < end; k++) {
#pragma GCC unroll 16
      for (int i = 0; i < COUNT; i++) sum[i] = sum[i] + own_[k] * ratio(k, j + i);
    }
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; i++) v_[j + i] = sum[i];
  }

  // The block scale of least weighted error, for what v will be in a block that nothing is rounded in.
  Floats choose_scale(int64_t begin, int64_t end) const {
    Ints peak = {};
    for (int64_t k = begin; k < end; k++) moved_[k - begin] = v_[k];
    for (int64_t k = begin; k < end; k++) {
      const Floats change = own_[k] - moved_[k - begin];
      for (int64_t j = k + 1; j < end; j++) moved_[j - begin] += change * ratio(k, j);
      peak = larger_magnitude(peak, moved_[k - begin]);
    }
    const Floats wanted = smaller((Floats)peak / all((float)largest_code(a_.bits)), all((float)a_.largest));
    const Floats unclipped = larger(rounded_up(wanted), all(1.0f));
    Floats best = unclipped, best_error = all(__builtin_inff());
    for (int64_t t = 0; t < a_.tries; t++) {
      const Floats multiple = larger(unclipped - all((float)t), all(1.0f));
      for (int64_t k = begin; k < end; k++) {
        const Floats scaled = moved_[k - begin] / multiple, error = code_of(scaled) - scaled;
        errors_[k - begin] = error * error * all(a_.weights[k]);
      }
      const Floats error = sum_in_halves(errors_, end - begin) * multiple * multiple;
      best = where((Ints)(error < best_error), multiple, best);
      best_error = smaller(error, best_error);
    }
    return best;
  }

  const FeedbackCall& a_;
  int64_t first_;
  Floats *v_, *own_, *moved_, *errors_;
};

}  // namespace KERNEL
