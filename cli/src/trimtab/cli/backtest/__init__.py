"""What a policy would have cost and gained: the services' own cores over recorded events, in virtual time."""
