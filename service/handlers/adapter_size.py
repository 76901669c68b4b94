"""Whether an adapter fits into the memory that is kept for adapters at all."""

from service.adapters.manifest import Manifest
from service.errors import AdapterRefused, Refusal


def check_size(manifest: Manifest, dtype: str, max_compiled_bytes: int | None) -> None:
    """Raises `AdapterRefused`; None means that nothing is known of the memory."""
    num_bytes = manifest.payload_bytes(dtype)
    if max_compiled_bytes is not None and num_bytes > max_compiled_bytes:
        message = (
            f"The adapter takes {num_bytes:,} bytes in memory, but this server keeps"
            f" {max_compiled_bytes:,} for adapters; lower its rank or ask the operator"
            " to raise --device-adapter-bytes and --host-adapter-bytes."
        )
        raise AdapterRefused((Refusal("too_large", "adapter_model.safetensors", message),))
