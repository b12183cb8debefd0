"""The three stages: records in, records out, around the pure core."""

from trimtab.monitor.stages.detect import detect_stage
from trimtab.monitor.stages.join import Holds, join_stage
from trimtab.monitor.stages.route import Models, route_stage

__all__ = ["Holds", "Models", "detect_stage", "join_stage", "route_stage"]
