"""`trimtab demo`: a year of real flights through the closed loop, and what it was worth."""
