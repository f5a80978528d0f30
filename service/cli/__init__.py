"""The `vidtr` command. Each module is a command or two, a few lines over the packages."""
