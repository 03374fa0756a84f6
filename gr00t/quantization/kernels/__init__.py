"""What multiplies codes, exactly: `accumulate` in PyTorch's operations, of which `reference` is the oracle;
CPU kernels in C++ (`native`), compiled (`build`) and loaded (`library`); and GPU kernels in Triton
(`triton`). Both are operators (`operators`), given what a layer holds (`arguments`). `availability` knows
which can run, `choice` says which does.
"""
