from tests.pipeline.test_arrivals import *
from tests.pipeline.conftest import lake, make_lake, orders_contract
