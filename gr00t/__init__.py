"""GR00T N1.5 at 4-bit weights and 8-bit activations: model, quantization, service and evaluation.

Importing this package imports nothing else: the simulator's client needs neither torch nor transformers.
"""

__version__ = "0.2.0"
