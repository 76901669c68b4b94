"""How much one upload, one compile and the store may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    max_upload_bytes: int = 2 << 30
    """Of the whole request body, and of everything staged for one publish."""
    max_files: int = 64
    """In an upload, and members of an archive."""
    max_file_name_bytes: int = 255
    max_unpacked_bytes: int = 4 << 30
    max_lora_rank: int = 512
    max_config_bytes: int = 1 << 20
    max_tokenizer_bytes: int = 64 << 20
    max_chat_template_bytes: int = 128 << 10
    max_added_tokens: int = 10_000
    """Tokens that an adapter's tokenizer may have beside the base's."""
    max_refusals: int = 50
    """Reasons reported for one upload; the rest is counted."""
    compile_timeout_s: float = 120.0
    """Wall clock and CPU seconds of one child."""
    compile_memory_bytes: int = 1 << 30
    """Private memory of one child; the mapped base and the mapped upload do not count."""
    max_parallel_compiles: int = 1
    max_open_uploads: int = 8
    """Of a tenant, from the first byte until they are published or refused."""
    disk_reserve_bytes: int = 256 << 20
    """Of the store's disk, which uploads leave free for records of what is done."""
    store_budget_bytes: int | None = None
    """Of all originals together; None = what the disk holds."""
    max_adapters: int = 100_000
