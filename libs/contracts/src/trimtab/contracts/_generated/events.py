"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""

from collections.abc import Mapping

from trimtab.contracts._generated.control import (
    CommandSettled,
    DeploymentChanged,
    DriftDetected,
    LoopDeclared,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    PublishedSchema,
    QualityRestored,
    QualityViolated,
    RegistryCommand,
    RetrainAsked,
    RetrainDeclined,
    RetrainRequested,
    TimeAdvanced,
    TrainingFailed,
)

Event = CommandSettled | DeploymentChanged | DriftDetected | LoopDeclared | ModelRegistered | ModelTrained | PerformanceMeasured | QualityRestored | QualityViolated | RegistryCommand | RetrainAsked | RetrainDeclined | RetrainRequested | PublishedSchema | TimeAdvanced | TrainingFailed

BY_TOPIC: Mapping[str, type[Event]] = {
    "command.settled": CommandSettled,
    "deployment.changed": DeploymentChanged,
    "drift.detected": DriftDetected,
    "loop.declared": LoopDeclared,
    "model.registered": ModelRegistered,
    "model.trained": ModelTrained,
    "performance.measured": PerformanceMeasured,
    "quality.restored": QualityRestored,
    "quality.violated": QualityViolated,
    "registry.commands": RegistryCommand,
    "retrain.asked": RetrainAsked,
    "retrain.declined": RetrainDeclined,
    "retrain.requested": RetrainRequested,
    "schemas": PublishedSchema,
    "time.advanced": TimeAdvanced,
    "training.failed": TrainingFailed,
}
