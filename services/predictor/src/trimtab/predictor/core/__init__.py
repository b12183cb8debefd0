"""Which model scores which ask, and what is said about it: asks, vectors and deployments in, predictions out."""

from trimtab.predictor.core.encoding import Encoder
from trimtab.predictor.core.predictions import (
    Ask,
    Assemble,
    Deployed,
    Deployment,
    Deployments,
    Model,
    Request,
    Said,
    Scored,
    Writer,
    overridden,
    score,
    writer,
)

__all__ = [
    "Ask",
    "Assemble",
    "Deployed",
    "Deployment",
    "Deployments",
    "Encoder",
    "Model",
    "Request",
    "Said",
    "Scored",
    "Writer",
    "overridden",
    "score",
    "writer",
]
