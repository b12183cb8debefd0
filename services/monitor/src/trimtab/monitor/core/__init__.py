"""What the monitor decides: functions of columns and of the tables they keep; `whole.LoopMonitor` runs them all."""
