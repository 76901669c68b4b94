"""How boto3 is asked: who acts is nobody's business, and a stand-in for S3 is like S3 in order."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from service.adapters.backends.s3.client import S3Endpoint, s3_client
from service.errors import ConfigurationError
from tests.s3_server import CREDENTIALS, S3Server


def test_without_boto3_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'repertoire\[s3\]'"):
        s3_client(S3Endpoint())


def test_the_region_may_be_said_by_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert s3_client(S3Endpoint()).meta.region_name == "us-east-1"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert s3_client(S3Endpoint()).meta.region_name == "eu-north-1"


def test_credentials_are_in_no_log(s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = s3_client(S3Endpoint(s3.url, "path"))
        client.put_object(Bucket=s3.new_bucket(), Key="k", Body=b"v")
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in caplog.text
    assert "Signature" not in caplog.text


def test_of_many_who_create_a_key_one_has_it(s3: S3Server) -> None:
    bucket = s3.new_bucket()

    def create(number: int) -> bool:
        try:
            s3.client.put_object(Bucket=bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"] != "PreconditionFailed"
        return True

    with ThreadPoolExecutor(8) as threads:
        won = [number for number, has in enumerate(threads.map(create, range(32))) if has]
    assert len(won) == 1
    assert s3.client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"%d" % won[0]
