"""Why a job run failed, in the one line that Glue would show."""

from __future__ import annotations

import textwrap

import pytest

from deploy.local.job_error import failure

TRACEBACK = """
    Traceback (most recent call last):
      File "/tmp/script.py", line 3, in <module>
        work()
    ValueError: amount is 'abc'
"""
CAUGHT_AND_TOLD = """
    Traceback (most recent call last):
      File "/tmp/script.py", line 3, in <module>
        work()
    ValueError: amount is 'abc'
    a
    b
    c
    d
    e
    f
    g
    s3://raw/a.csv cannot be read: look at the bucket's policy.
"""
JAVA = """
    26/11/21 19:29:50 WARN NativeCodeLoader: Unable to load native-hadoop library
    Traceback (most recent call last):
      File "/tmp/script.py", line 1, in <module>
        spark.read.csv("s3://none/x")
                   ^^^^^^^^^^^^^^^^^^
    py4j.protocol.Py4JJavaError: An error occurred while calling o42.csv.
    : org.apache.hadoop.fs.s3a.UnknownStoreException: s3://none/x
    \tat org.apache.hadoop.fs.s3a.S3AUtils.translateException(S3AUtils.java:257)
    Caused by: com.amazonaws.services.s3.model.AmazonS3Exception: no such bucket
    \t... 20 more

    26/11/21 19:29:59 INFO ShutdownHookManager: Deleting directory /tmp/spark
"""
WORKER = """
    Traceback (most recent call last):
      File "/tmp/script.py", line 9, in <module>
    pyspark.errors.exceptions.captured.PythonException:
      An exception was thrown from the Python worker. Please see the stack trace below.
    Traceback (most recent call last):
      File "/tmp/script.py", line 5, in judge
    KeyError: 'amount'
"""
SEVERAL_LINES = """
    Traceback (most recent call last):
      File "/tmp/script.py", line 9, in <module>
    ContractError: orders.yaml cannot be used.
    schema: expected a list.
"""
LOGGED = """
    one sentence that says why.
    2026-11-21T19:29:59.123Z [main] ERROR Utils: Uncaught exception
    Setting default log level to "WARN".
"""


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        pytest.param(TRACEBACK, "ValueError: amount is 'abc'", id="an exception"),
        pytest.param(
            CAUGHT_AND_TOLD,
            "s3://raw/a.csv cannot be read: look at the bucket's policy.",
            id="the last word after an exception that was caught",
        ),
        pytest.param(
            JAVA,
            "py4j.protocol.Py4JJavaError: An error occurred while calling o42.csv. "
            "org.apache.hadoop.fs.s3a.UnknownStoreException: s3://none/x",
            id="an exception of Java's",
        ),
        pytest.param(WORKER, "KeyError: 'amount'", id="an exception of a worker's"),
        pytest.param(
            SEVERAL_LINES,
            "ContractError: orders.yaml cannot be used. schema: expected a list.",
            id="a message of several lines",
        ),
        pytest.param(LOGGED, "one sentence that says why.", id="a sentence before log lines"),
        pytest.param("\n\n", "the last of the output", id="nothing but output"),
    ],
)
def test_the_reason_is_what_was_said_last_and_means_something(errors: str, said: str) -> None:
    lines = textwrap.dedent(errors).strip("\n").splitlines()
    assert failure(lines, ["first", "the last of the output", ""], 1) == said


@pytest.mark.parametrize(
    ("returncode", "said"),
    [
        (7, "Command failed with exit code 7"),
        (-9, "Command failed: its process was ended by signal 9 (SIGKILL)"),
        (-11, "Command failed: its process was ended by signal 11 (SIGSEGV)"),
    ],
)
def test_without_a_word_the_reason_is_how_it_ended(returncode: int, said: str) -> None:
    assert failure([], ["  ", ""], returncode) == said


def test_what_was_said_before_a_kill_is_not_its_reason() -> None:
    assert "SIGKILL" in failure(["all is well"], [], -9)


def test_a_reason_has_an_end() -> None:
    assert len(failure(["x" * 100_000], [], 1)) == 2_000
