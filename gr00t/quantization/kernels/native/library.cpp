// The C interface: which kernels there are, and one function for each part of a layer.
//
// KERNELS is the list of those that were compiled, fastest first, as X(name) X(name).
#include <cstring>

#include "arguments.hpp"

#define X(name) extern const Kernel kernel_##name;
KERNELS
#undef X

namespace {

#define X(name) &kernel_##name,
const Kernel* const kernels[] = {KERNELS};
#undef X

constexpr int count = sizeof(kernels) / sizeof(kernels[0]);

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Name of the i-th kernel, null behind the last.
EXPORTED const char* duquant_kernel(int i) { return i < count ? kernels[i]->name : nullptr; }

EXPORTED int duquant_is_supported(int i) { return kernels[i]->is_supported(); }

EXPORTED int duquant_has_threads() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}

EXPORTED int duquant_rotate(int i, const Arguments* a) { return kernels[i]->rotate(*a); }
EXPORTED int duquant_front(int i, const Arguments* a) { return kernels[i]->front(*a); }
EXPORTED int duquant_accumulate(int i, const Arguments* a) { return kernels[i]->accumulate(*a); }
EXPORTED int duquant_rear(int i, const Arguments* a) { return kernels[i]->rear(*a); }
EXPORTED int duquant_linear(int i, const Arguments* a) { return kernels[i]->linear(*a); }
EXPORTED int duquant_search(int i, const Arguments* a) { return kernels[i]->search(*a); }

// Operations done in `rounds` rounds by registers alone, for the roofline.
EXPORTED double duquant_peak(int i, int64_t rounds) { return kernels[i]->peak(rounds); }
