"""The integer layer on a GPU, as Triton kernels (extra `gpu`): two launches where the default settings hold.

    prologue   x -> codes and scales: smoothing, permutation, block rotation, quantization
    gemm       codes, packed weight -> int32 sums; or, with the epilogue in its tile, the layer's output
    epilogue   sums -> output: scales, restored rotation, bias, where the GEMM's tile cannot

`launch` has the same functions as `kernels.operators`, of which they are the implementation for CUDA tensors;
`availability` says where they can run, `tiles` how they are cut, `weight` reads codes and block scales of
every width as they are stored. Everything else here imports triton, so nothing but the operators imports it,
on their first use. With TRITON_INTERPRET=1 in the environment before that, the kernels run on a CPU, for
tests.
"""
