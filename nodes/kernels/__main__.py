"""``python -m filoray.nodes.kernels``: compile every kernel into numba's on-disk cache before processes race for it."""

from filoray.nodes.kernels.warm_up import warm_up

warm_up()
