"""The stages: one file each, with its frozen `Config` and its `run(config)`. Command, component and test call that."""
