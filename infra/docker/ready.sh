#!/bin/bash
# Healthy when GET /ready answers 200. No JVM, no Python: it runs every few seconds in every container.
exec 3<>"/dev/tcp/127.0.0.1/${TRIMTAB_HTTP__PORT}" || exit 1
printf 'GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r _ status _ <&3
[ "$status" = 200 ]
