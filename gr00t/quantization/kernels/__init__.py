"""What multiplies codes, exactly: `accumulate` in PyTorch's operations, of which `reference` is the oracle;
and CPU kernels in C++ (`native`), compiled (`build`), loaded (`library`), made operators (`operators`) and
given what a layer holds (`arguments`). `choice` says which.
"""
