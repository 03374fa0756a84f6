// The C interface: which kernels there are, how what they take is laid out, and one function for each part of a layer.
//
// KERNELS is the list of those that were compiled, fastest first, as X(name) X(name).
#include <cstddef>

#include "operands.hpp"

#define X(name) extern const Kernel kernel_##name;
KERNELS
#undef X

namespace {

#define X(name) &kernel_##name,
const Kernel* const kernels[] = {KERNELS};
#undef X

constexpr int count = sizeof(kernels) / sizeof(kernels[0]);

// A field of a struct, or after the last one, without a name, the struct itself.
struct Field {
  const char* name;
  int64_t at;
  int64_t bytes;
};

#define FIELD(type, name) {#name, offsetof(Struct, name), sizeof(Struct::name)},
#define LAYOUT(Record, FIELDS)                                          \
  namespace layout_of_##Record {                                        \
    using Struct = Record;                                              \
    const Field fields[] = {FIELDS(FIELD){nullptr, 0, sizeof(Struct)}}; \
  }
LAYOUT(LinearOperands, LINEAR_OPERANDS)
LAYOUT(LinearCall, LINEAR_CALL)
LAYOUT(SearchCall, SEARCH_CALL)
LAYOUT(FeedbackCall, FEEDBACK_CALL)
#undef FIELD

Arguments together(const LinearOperands* layer, const LinearCall* call) { return {*layer, *call}; }

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Name of the i-th kernel, null behind the last.
EXPORTED const char* duquant_kernel(int i) { return i < count ? kernels[i]->name : nullptr; }

EXPORTED int duquant_is_supported(int i) { return kernels[i]->is_supported(); }

// Why the i-th kernel is not supported though the processor shows its instructions; null where it is, or shows none.
EXPORTED const char* duquant_refusal(int i) { return kernels[i]->refusal(); }

EXPORTED int duquant_has_threads() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}

EXPORTED const Field* duquant_linear_operands() { return layout_of_LinearOperands::fields; }
EXPORTED const Field* duquant_linear_call() { return layout_of_LinearCall::fields; }
EXPORTED const Field* duquant_search_call() { return layout_of_SearchCall::fields; }
EXPORTED const Field* duquant_feedback_call() { return layout_of_FeedbackCall::fields; }

#define PART(name)                                                                          \
  EXPORTED int duquant_##name(int i, const LinearOperands* layer, const LinearCall* call) { \
    return kernels[i]->name(together(layer, call));                                         \
  }
PART(rotate)
PART(prologue)
PART(accumulate)
PART(epilogue)
PART(linear)
#undef PART

EXPORTED int duquant_search(int i, const SearchCall* call) { return kernels[i]->search(*call); }
EXPORTED int duquant_feedback(int i, const FeedbackCall* call) { return kernels[i]->feedback(*call); }

// Operations done in `rounds` rounds by registers alone, for the roofline.
EXPORTED double duquant_peak(int i, int64_t rounds) { return kernels[i]->peak(rounds); }
