"""How often the monitor's stages commit: none of them stands between an event and its prediction."""

COMMIT_INTERVAL_MS = 100
LIVE_INTERVAL_MS = 500
