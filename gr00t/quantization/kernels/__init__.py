"""What multiplies codes, exactly: `accumulate` in PyTorch's operations, of which `reference` is the oracle;
CPU kernels in C++ (`native`), compiled (`build`) and loaded (`library`); and GPU kernels in Triton
(`triton`). Both are operators (`operators`), given what a layer holds (`operands`). `search` finds the codes
and scales of a weight, in C++ where that can run. `availability` knows which can, `choice` says which does.
"""
