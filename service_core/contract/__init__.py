"""Contracts: one ODCS document per data set, as typed and frozen objects, or as problems."""

from service_core.contract.checks import CheckDeclaration, CheckKind, check_names
from service_core.contract.load import check_contracts, load_contract, load_contracts
from service_core.contract.model import Contract
from service_core.contract.problem import ContractError, Problem

__all__ = [
    "CheckDeclaration",
    "CheckKind",
    "Contract",
    "ContractError",
    "Problem",
    "check_contracts",
    "check_names",
    "load_contract",
    "load_contracts",
]
