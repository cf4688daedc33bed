"""All that is not Keras API: what depends on whether TensorFlow or JAX runs underneath.

The backend is chosen before Keras is imported, by the environment variable KERAS_BACKEND (tensorflow by default).
"""

from pathlib import Path

import keras


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and the backend, and ask the backend for reproducible operations."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


def has_accelerator() -> bool:
    """Whether the backend sees a GPU or TPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    return False


def choose_precision(wanted: str) -> str:
    """Resolve `auto`: mixed_bfloat16 on an accelerator or a CPU that computes bfloat16, else float32.

    On a CPU without bfloat16 instructions mixed precision is slower than float32.
    """
    if wanted != "auto":
        return wanted
    try:
        cpu_flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        cpu_flags = []
    fast = has_accelerator() or "amx_bf16" in cpu_flags or "avx512_bf16" in cpu_flags
    return "mixed_bfloat16" if fast else "float32"


def jit_compile() -> bool | str:
    """XLA makes training on a CPU 2 to 6 times slower under TensorFlow; elsewhere Keras decides."""
    return False if keras.backend.backend() == "tensorflow" and not has_accelerator() else "auto"
