"""The subcommands of ``python -m data_prep``: each module has ``add_arguments(parser)`` and ``run(arguments)``."""
