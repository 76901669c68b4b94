"""Makes the bucket BUCKET where there is none, in the S3 that the AWS_… variables name."""

import sys

import boto3
from botocore.exceptions import ClientError


def main(bucket: str) -> None:
    client = boto3.client("s3")
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    main(sys.argv[1])
