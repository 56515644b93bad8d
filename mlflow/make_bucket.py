#!/usr/bin/env python3
"""Makes the bucket for artifacts unless it is there, with the S3 settings that MLflow itself uses."""

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# The bucket is there, and ours or somebody else's; whether we may write to it, MLflow will find out.
THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def main() -> int:
    bucket = os.environ["S3_BUCKET"]
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    client = boto3.client(
        "s3", endpoint_url=endpoint, config=Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 5})
    )
    where = endpoint or "AWS"
    try:
        client.head_bucket(Bucket=bucket)
        print(f"bucket {bucket} is there ({where})")
        return 0
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            print(f"bucket {bucket} at {where}: {error}", file=sys.stderr)
            return 1
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    # us-east-1 is the one region that must not be named.
    where_to = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, **where_to)
        print(f"bucket {bucket} made ({where})")
    except ClientError as error:
        if error.response["Error"]["Code"] not in THERE:
            raise
        print(f"bucket {bucket} is there ({where})")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"S3 at {os.environ.get('MLFLOW_S3_ENDPOINT_URL') or 'AWS'}: {error}")
