"""The seam between the compiler and one PEFT kind, and the list of kinds that exist."""

from collections.abc import Callable

from service.adapters.limits import AdapterLimits
from service.compiler.kinds.lora import plan_lora
from service.compiler.refusals import Refusals
from service.compiler.terms import Plan
from service.compiler.upload import Upload
from service.core import BaseDescription

Planner = Callable[[Upload, BaseDescription, AdapterLimits, Refusals], Plan]
"""Checks everything an upload says and plans its terms.

Adds every reason against the upload to the refusals and raises `AdapterRefused` when there is any.
"""

KINDS: dict[str, Planner] = {"LORA": plan_lora}
"""By peft's `peft_type`."""
