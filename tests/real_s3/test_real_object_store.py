from tests.pipeline.test_object_store import *
