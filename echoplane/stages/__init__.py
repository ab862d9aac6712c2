"""The stages: one file each, with its frozen `Config` and `run(config)`, which command, component and test all call."""
