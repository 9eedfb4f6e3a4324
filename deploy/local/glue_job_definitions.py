"""A Glue job can be changed, and is not lost by being created twice.

Stock moto has no UpdateJob, and its CreateJob puts a new job with no runs in the place of the old.
"""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.glue.responses import GlueResponse

#: What UpdateJob sets, and the attribute in which moto keeps it. What an update leaves out is
#: removed, as in Glue.
_KEPT_AS = {
    "Description": "description",
    "LogUri": "log_uri",
    "Role": "role",
    "ExecutionProperty": "execution_property",
    "Command": "command",
    "DefaultArguments": "default_arguments",
    "NonOverridableArguments": "non_overridable_arguments",
    "Connections": "connections",
    "MaxRetries": "max_retries",
    "AllocatedCapacity": "allocated_capacity",
    "Timeout": "timeout",
    "MaxCapacity": "max_capacity",
    "SecurityConfiguration": "security_configuration",
    "NotificationProperty": "notification_property",
    "GlueVersion": "glue_version",
    "NumberOfWorkers": "number_of_workers",
    "WorkerType": "worker_type",
    "CodeGenConfigurationNodes": "code_gen_configuration_nodes",
    "ExecutionClass": "execution_class",
    "SourceControlDetails": "source_control_details",
}
_EMPTY: dict[str, Any] = {
    "ExecutionProperty": {},
    "DefaultArguments": {},
    "ExecutionClass": "STANDARD",
}


def apply() -> None:
    """Wrap moto's CreateJob, and add UpdateJob."""
    stock_create = GlueResponse.create_job

    def create_job(self: GlueResponse) -> Any:
        name = self.parameters["Name"]
        there = self.glue_backend.jobs.get(name)
        if there is None:
            return stock_create(self)
        if _differs(there, self.parameters):
            raise JsonRESTError(
                "IdempotentParameterMismatchException",
                f"Job {name} already submitted with different configurations",
            )
        return ActionResult({"Name": name})

    def update_job(self: GlueResponse) -> ActionResult:
        name = self.parameters["JobName"]
        job = self.glue_backend.get_job(name)
        for asked, attribute in _KEPT_AS.items():
            update = self.parameters.get("JobUpdate") or {}
            setattr(job, attribute, update.get(asked) or _EMPTY.get(asked))
        job.last_modified_on = utcnow()
        return ActionResult({"JobName": name})

    GlueResponse.create_job = create_job
    GlueResponse.update_job = update_job


def _differs(job: Any, asked: dict[str, Any]) -> bool:
    return any(
        (asked.get(name) or _EMPTY.get(name)) != (getattr(job, attribute) or _EMPTY.get(name))
        for name, attribute in _KEPT_AS.items()
    )
