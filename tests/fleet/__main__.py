"""`make fleet`: two replicas, a Redis and a balancer under load, a kill, an outage, a rolling
restart, a report. Exit code 0 only if nothing was lost and nothing broke that must not."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.fleet.run import FULL, SHORT, run
from tests.haproxy import BINARY
from tests.redis_server import redis_binary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the form of `make test`")
    parser.add_argument("--s3", action="store_true", help="with a store in a bucket, of moto")
    parser.add_argument("--json", type=Path, help="write the report here too")
    arguments = parser.parse_args()
    # As Ctrl-C: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if BINARY is None or redis_binary() is None:
        print("a fleet needs haproxy and redis-server, e.g. `apt-get install haproxy`")  # noqa: T201
        return 2
    plan = SHORT if arguments.quick else FULL
    report = asyncio.run(run(plan, has_bucket=arguments.s3))
    print(report.table())  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(report.body(), indent=2) + "\n")
    return 1 if report.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
