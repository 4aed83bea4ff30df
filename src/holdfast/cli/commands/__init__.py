"""The commands in groups: each module here has `register(app)`, called by `holdfast.cli.app`."""
