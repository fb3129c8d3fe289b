"""The methods behind *The Lazy Artist: Unboxing the Black Box*.

One module, one idea. Images are ``float32 [N, 3, 28, 28]`` in [0, 1]; labels and colours are
``int64 [N]``; stroke masks are ``bool [N, 28, 28]``.
"""

__version__ = "1.0.0"
