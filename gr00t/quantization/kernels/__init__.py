"""Who computes a quantized layer: its `backend`, which `registry` finds by name and by what this machine has.

The oracle is `torch_reference`, in PyTorch's operations. Compiled kernels are C++ for CPUs (`native`: built
by `build`, kept by `library_file`, loaded by `library`) and Triton for GPUs (`triton`); both are PyTorch
operators (`operators`) of what a layer holds (`operands`). `search` finds the codes and scales of a weight,
in C++ where that can run. `availability` knows what can run, `choice` says what does, and why.
"""
