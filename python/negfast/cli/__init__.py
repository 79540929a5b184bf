"""The `negfast` command: one module per subcommand, parsed and started in `negfast.cli.main`."""
