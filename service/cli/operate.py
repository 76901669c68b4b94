"""Asks the server, shows the answer on stdout or the error on stderr; the exit status."""

import json
import os
import sys
from typing import Any

from service.cli.command import Operation, Output
from service.cli.render import clean, print_text
from service.client import ApiError, Client, ClientError

REFUSED, UNANSWERED, INTERRUPTED = 1, 2, 130


def operate(operation: Operation) -> int:
    try:
        with Client(operation.url, operation.key) as client:
            output = operation.run(client, operation.options)
        _show(output, operation.is_json)
    except ClientError as error:
        _complain(error, operation.is_json)
        return REFUSED if isinstance(error, ApiError) else UNANSWERED
    except BrokenPipeError:
        # Whoever reads has seen enough; Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return 0 if output.is_fine else REFUSED
    return 0


def _show(output: Output, is_json: bool) -> None:
    if is_json:
        sys.stdout.write(json.dumps(_plain(output.data), indent=2) + "\n")
    else:
        print_text(output.text)
    sys.stdout.flush()


def _complain(error: ClientError, is_json: bool) -> None:
    if is_json:
        sys.stderr.write(json.dumps({"error": _error_body(error)}, indent=2) + "\n")
        return
    lines = [str(error)]
    if isinstance(error, ApiError):
        if error.reasons:
            lines = ["it is refused:"]
        lines += [f"  {one.code} ({one.subject}): {one.message}" for one in error.reasons]
        if error.retry_after is not None:
            lines.append(f"Try again in {error.retry_after:.0f} s.")
        if error.status >= 500 and error.request_id:
            lines.append(f"The server's log calls this request {error.request_id}.")
    sys.stderr.write("repertoire: " + "\n".join(map(clean, lines)) + "\n")


def _error_body(error: ClientError) -> dict[str, Any]:
    if not isinstance(error, ApiError):
        return {"message": str(error), "status": None, "code": None}
    return {
        "message": error.message,
        "status": error.status,
        "code": error.code,
        "param": error.param,
        "reasons": [
            {"code": one.code, "subject": one.subject, "message": one.message}
            for one in error.reasons
        ],
        "pointers": list(error.pointers),
        "retry_after": error.retry_after,
        "request_id": error.request_id,
    }


def _plain(data: Any) -> Any:
    """The server's own fields, by their own names."""
    if isinstance(data, list):
        return [_plain(one) for one in data]
    return data.model_dump(mode="json")
