"""Exit code 0 when the server in this container answers 200 on the given path.

The image has no curl; `/health` and `/ready` need no key.
"""

import os
import sys
import urllib.error
import urllib.request


def main(path: str) -> int:
    url = f"http://127.0.0.1:{os.environ.get('REPERTOIRE_PORT', '8000')}{path}"
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return 0 if response.status == 200 else 1
    except (urllib.error.URLError, OSError):
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/health"))
