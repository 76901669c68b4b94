from tests.api.conftest import _clean_environment, _logging
from tests.client.conftest import base, house, lora

__all__ = ["_clean_environment", "_logging", "base", "house", "lora"]
