"""Compiles the kernels into the package, for an image that has no compiler where it runs."""

import sys
from pathlib import Path

from service.model.native.build import PREBUILT, prebuild_library


def main() -> None:
    for library in prebuild_library(Path(__file__).with_name("kernels.cpp"), PREBUILT):
        sys.stdout.write(f"{library}\n")


if __name__ == "__main__":
    main()
