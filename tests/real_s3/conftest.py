import pytest
@pytest.fixture(autouse=True)
def seaweed(monkeypatch, embedded_aws):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:12103")
