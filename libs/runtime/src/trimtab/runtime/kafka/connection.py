"""How to reach Kafka."""

import ssl
from dataclasses import dataclass
from typing import Any, Literal

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

REQUEST_TIMEOUT_MS = 10_000
"""As long as a transaction may take: whoever waits longer for an answer has lost the transaction anyway."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and credentials. `ca_file`: trust for SSL beyond the system's own."""

    bootstrap_servers: str
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None

    def arguments(self, client_id: str) -> dict[str, Any]:
        """What every client of aiokafka takes."""
        encrypted = self.security_protocol.endswith("SSL")
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": client_id,
            "security_protocol": self.security_protocol,
            "ssl_context": ssl.create_default_context(cafile=self.ca_file) if encrypted else None,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "metadata_max_age_ms": 10_000,
        }
